use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use store::BlobBody;

/// A bar of bytes on standard error; nothing where that is not a terminal.
#[derive(Clone)]
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar that is full at `total_bytes`.
    pub fn new(total_bytes: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total_bytes), ProgressDrawTarget::stderr_with_hz(10));
        let style = ProgressStyle::with_template(
            "{bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta} left {msg}",
        );
        // The template is fixed; were it refused, the plain bar does.
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(250));
        Self(bar)
    }

    /// A bar of steps, whose number is told later.
    pub fn of_steps(task: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        let style = ProgressStyle::with_template("{msg} {bar:30} {human_pos} of {human_len} {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(task.to_owned());
        bar.enable_steady_tick(Duration::from_millis(250));
        Self(bar)
    }

    /// Shows that so many steps are done.
    pub fn at(&self, done: u64, total: u64) {
        self.0.set_length(total.max(done));
        self.0.set_position(done);
    }

    /// Counts bytes that were moved.
    pub fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    /// `body`, its bytes counted as they pass.
    pub fn count(&self, body: BlobBody) -> BlobBody {
        let progress = self.clone();
        BlobBody::from_stream(body.inspect(move |piece| progress.add(piece.as_ref().map_or(0, length))))
    }

    /// Clears the bar away.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

fn length(piece: &Bytes) -> u64 {
    piece.len() as u64
}
