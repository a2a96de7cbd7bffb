use unicode_normalization::UnicodeNormalization;

use super::{Rule, refuse_placeholder};
use crate::{Invocation, Json, Uncacheable};

const DATE: &str = "⟨date⟩";
const GIT: &str = "⟨git⟩";

/// What a date line starts with.
const DATE_LINES: &[&str] = &["Today's date: ", "Today's date is ", "currentDate: "];
/// Lines of an environment block, and what stands for their values.
const ENV_LINES: &[(&str, &str)] =
    &[("Platform: ", "⟨platform⟩"), ("OS Version: ", "⟨os⟩"), ("Shell: ", "⟨shell⟩"), ("OS: ", "⟨os⟩")];
/// How the block of git status starts.
const GIT_START: &str = "gitStatus: ";
/// Lines of the block of git status, beside those of `git status --short` and `git log --oneline`.
const GIT_LINES: &[&str] = &["Current branch: ", "Main branch", "Git user: ", "Status:", "Recent commits:"];

/// Replaces lines of system and user text.
pub(super) fn mask(invocation: &mut Invocation, rule: Rule, replace: fn(&str) -> String) -> Result<(), Uncacheable> {
    let placeholders: Vec<String> = match rule {
        Rule::MaskEnv => ENV_LINES.iter().map(|(_, placeholder)| (*placeholder).to_owned()).collect(),
        Rule::MaskGit => vec![GIT.to_owned()],
        _ => vec![DATE.to_owned()],
    };
    refuse_placeholder(invocation, rule, &placeholders)?;
    texts(invocation, &mut |text| *text = replace(text));
    Ok(())
}

/// The text with the dates of date lines masked.
pub(super) fn date(text: &str) -> String {
    lines(text, |line| {
        let start = DATE_LINES.iter().find(|start| content(line).starts_with(**start))?;
        let (head, tail) = line.split_once(start)?;
        Some(format!("{head}{start}{}", mask_dates(tail)))
    })
}

/// The text with the values of environment lines masked.
pub(super) fn env(text: &str) -> String {
    lines(text, |line| {
        let (start, placeholder) = ENV_LINES.iter().find(|(start, _)| content(line).starts_with(start))?;
        let (head, _) = line.split_once(start)?;
        Some(format!("{head}{start}{placeholder}"))
    })
}

/// The text with the block of git status masked: from its first line on, as long as lines are what git prints.
pub(super) fn git(text: &str) -> String {
    let mut inside = false;
    let mut out: Vec<&str> = Vec::new();
    for line in text.split('\n') {
        if line.starts_with(GIT_START) {
            inside = true;
            out.push(GIT);
            continue;
        }
        inside = inside && is_git(line);
        if !inside {
            out.push(line);
        }
    }
    out.join("\n")
}

/// CRLF becomes LF, trailing space goes, and characters are composed, in system and user text; never in tool results.
pub(super) fn normalise(invocation: &mut Invocation) {
    texts(invocation, &mut |text| {
        let unix = text.replace("\r\n", "\n");
        let trimmed: Vec<&str> = unix.split('\n').map(|line| line.trim_end_matches([' ', '\t'])).collect();
        *text = trimmed.join("\n").nfc().collect();
    });
}

/// The text of system blocks and of text blocks that a user or the system wrote.
fn texts(invocation: &mut Invocation, visit: &mut impl FnMut(&mut String)) {
    let spoken =
        invocation.links.iter_mut().filter(|link| matches!(link.role.as_str(), Some("user" | "system" | "developer")));
    for block in invocation.system.iter_mut().chain(spoken.map(|link| &mut link.block)) {
        let Json::Object(members) = block else { continue };
        let is_text = members.get("type").is_none_or(|kind| matches!(kind.as_str(), Some("text" | "input_text")));
        if let (true, Some(Json::String(text))) = (is_text, members.get_mut("text")) {
            visit(text);
        }
    }
}

fn lines(text: &str, replace: impl Fn(&str) -> Option<String>) -> String {
    let lines: Vec<String> = text.split('\n').map(|line| replace(line).unwrap_or_else(|| line.to_owned())).collect();
    lines.join("\n")
}

/// A line without what marks it as one of a list.
fn content(line: &str) -> &str {
    line.trim_start().trim_start_matches("- ")
}

/// The text with each `2026-11-24` or `2026/11/24` masked.
fn mask_dates(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        let after_digit = out.ends_with(|char: char| char.is_ascii_digit());
        match rest.get(..10).filter(|head| is_date(head) && !after_digit) {
            Some(_) => {
                out.push_str(DATE);
                rest = rest.get(10..).unwrap_or("");
            }
            None => {
                out.push(char);
                rest = rest.get(char.len_utf8()..).unwrap_or("");
            }
        }
    }
    out
}

fn is_date(text: &str) -> bool {
    text.bytes().enumerate().all(|(index, byte)| match index {
        4 | 7 => byte == b'-' || byte == b'/',
        _ => byte.is_ascii_digit(),
    })
}

/// Whether a line can be one of the block of git status.
fn is_git(line: &str) -> bool {
    let is_status = |line: &str| {
        let Some((marks, path)) = line.split_at_checked(2) else { return false };
        marks.bytes().all(|byte| b" MADRCUT?!".contains(&byte)) && marks != "  " && path.starts_with(' ')
    };
    let is_commit = |line: &str| {
        let hash = line.split(' ').next().unwrap_or("");
        (7..=40).contains(&hash.len())
            && hash.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase())
    };
    line.is_empty()
        || line == "(clean)"
        || GIT_LINES.iter().any(|start| line.starts_with(start))
        || is_status(line)
        || is_commit(line)
}
