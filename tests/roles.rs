//! Who may do what, on the wire: each kind of credential with each role on each call, gRPC and HTTP. Prints the table.
mod harness;

#[path = "roles/calls.rs"]
mod calls;
#[path = "roles/credentials.rs"]
mod credentials;
#[path = "roles/routes.rs"]
mod routes;

use calls::{Call, Outcome};
use credentials::{Credential, Setting};
use harness::say;

/// The roles, and no role at all.
const ROLES: [&str; 7] = ["none", "read", "cas-write", "ac-write", "prompt-write", "nix-push", "admin"];

/// Whether a caller with this one role, held everywhere, may make a call that needs that one. Every role brings `read`.
fn is_allowed(held: &str, needed: &str) -> bool {
    needed == "open" || held == needed || ["read", "read everywhere"].contains(&needed) && held != "none"
}

/// What the specification has for this credential and call.
fn expected(credential: &Credential, call: &Call) -> Outcome {
    // Who may read anywhere may see what belongs to no instance.
    let is_seen = credential.is_known && call.needs == "read" && !call.has_instance;
    if is_seen || is_allowed(credential.role, call.needs) {
        return Outcome::Allowed;
    }
    if credential.is_known { Outcome::Forbidden } else { Outcome::Unauthenticated }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_credential_with_each_role_may_make_the_calls_of_the_role_and_no_others() {
    let setting = Setting::start();
    let calls: Vec<Call> = calls::all().into_iter().chain(routes::all()).chain(routes::of_operators()).collect();
    let mut faults = Vec::new();
    let mut asked = 0;
    for kind in credentials::KINDS {
        say(format!("\n{kind:<12} {}", ROLES.map(|role| format!("{role:<13}")).concat()));
        let held: Vec<Credential> = ROLES.iter().filter_map(|role| setting.credential(kind, role)).collect();
        for call in &calls {
            let mut row = format!("{:<34}", call.name);
            for credential in &held {
                let found = (call.run)(setting.clone(), credential.clone(), "team/a").await;
                let wanted = expected(credential, call);
                asked += 1;
                row.push_str(&format!("{:<13}", found.to_string()));
                if found != wanted {
                    faults.push(format!("{kind} with {}: {} gave {found}, not {wanted}", credential.role, call.name));
                }
            }
            say(row);
        }
    }
    say(format!("{asked} calls"));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_of_one_instance_is_nobody_in_another() {
    let setting = Setting::start();
    let writer = setting.team_writer();
    for call in calls::all().into_iter().chain(routes::all()) {
        let within = (call.run)(setting.clone(), writer.clone(), "team/a").await;
        assert_eq!(within, Outcome::Allowed, "{} in its own instance", call.name);
        for other in ["team/ab", "team", "other", ""] {
            let beyond = (call.run)(setting.clone(), writer.clone(), other).await;
            let wanted = if call.needs == "open" || !call.has_instance { Outcome::Allowed } else { Outcome::Forbidden };
            assert_eq!(beyond, wanted, "{} in {other:?}", call.name);
        }
    }
}

/// What tells of all instances is for who reads all of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_of_one_instance_learns_nothing_of_the_others() {
    let setting = Setting::start();
    for call in routes::of_operators() {
        let found = (call.run)(setting.clone(), setting.team_writer(), "team/a").await;
        let wanted = if call.needs == "open" { Outcome::Allowed } else { Outcome::Forbidden };
        assert_eq!(found, wanted, "{}", call.name);
    }
}

/// The same answer for what is there and for what is not.
#[tokio::test(flavor = "multi_thread")]
async fn where_reading_is_not_open_nothing_tells_what_is_there() {
    let setting = Setting::start();
    let stored = harness::Blob::new(b"what only the team may know".to_vec());
    let absent = harness::Blob::new(b"what nobody has".to_vec());
    calls::store(&setting, &setting.team_writer(), "team/a", &stored).await;
    let anonymous = setting.credential("anonymous", "none").expect("there is one");
    let rejected = setting.credential("bad token", "none").expect("there is one");
    for who in [anonymous, rejected] {
        let there = calls::probes(&setting, &who, "team/a", &stored).await;
        let gone = calls::probes(&setting, &who, "team/a", &absent).await;
        assert_eq!(there, gone);
        assert!(there.len() > 8, "{there:?}");
    }
}

/// Anonymous reading is open in one instance and nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_to_everyone_is_open_in_that_instance_alone() {
    let setting = Setting::start_with("anonymous_roles = [\"read@public\"]");
    let anonymous = setting.credential("anonymous", "none").expect("there is one");
    for call in calls::all().into_iter().chain(routes::all()).filter(|call| call.has_instance) {
        let open = (call.run)(setting.clone(), anonymous.clone(), "public/x").await;
        let wanted = if call.needs == "read" { Outcome::Allowed } else { Outcome::Unauthenticated };
        assert_eq!(open, wanted, "{} in public/x", call.name);
        let closed = (call.run)(setting.clone(), anonymous.clone(), "team/a").await;
        assert_eq!(closed, Outcome::Unauthenticated, "{} in team/a", call.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_caller_is_told_whether_it_may_write_action_results() {
    let setting = Setting::start();
    for role in &ROLES[1..] {
        let credential = setting.credential("token", role).expect("there is one");
        assert_eq!(calls::update_enabled(&setting, &credential, "team/a").await, *role == "ac-write", "{role}");
    }
    let writer = setting.team_writer();
    assert!(calls::update_enabled(&setting, &writer, "team/a/b").await);
}
