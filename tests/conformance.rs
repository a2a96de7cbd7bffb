//! The Remote Execution API as the built server speaks it on the wire: a case for each numbered requirement, and a table
//! of them at the end. Not a client of ours: the stubs come from another compilation of the protocol.
mod harness;

#[path = "conformance/actions.rs"]
mod actions;
#[path = "conformance/batch.rs"]
mod batch;
#[path = "conformance/capabilities.rs"]
mod capabilities;
#[path = "conformance/case.rs"]
mod case;
#[path = "conformance/chunks.rs"]
mod chunks;
#[path = "conformance/completeness.rs"]
mod completeness;
#[path = "conformance/digests.rs"]
mod digests;
#[path = "conformance/errors.rs"]
mod errors;
#[path = "conformance/find_missing.rs"]
mod find_missing;
#[path = "conformance/instances.rs"]
mod instances;
#[path = "conformance/lifetimes.rs"]
mod lifetimes;
#[path = "conformance/read.rs"]
mod read;
#[path = "conformance/requirements.rs"]
mod requirements;
#[path = "conformance/resource_names.rs"]
mod resource_names;
#[path = "conformance/sizes.rs"]
mod sizes;
#[path = "conformance/transport.rs"]
mod transport;
#[path = "conformance/trees.rs"]
mod trees;
#[path = "conformance/write.rs"]
mod write;

use std::any::Any;
use std::time::Duration;

use case::{Case, Context};
use harness::Server;

/// No case may take longer; one that hangs fails.
const PATIENCE: Duration = Duration::from_secs(150);

fn all_cases() -> Vec<Case> {
    [
        digests::cases(),
        instances::cases(),
        capabilities::cases(),
        sizes::cases(),
        find_missing::cases(),
        batch::cases(),
        resource_names::cases(),
        write::cases(),
        read::cases(),
        trees::cases(),
        chunks::cases(),
        actions::cases(),
        completeness::cases(),
        errors::cases(),
        lifetimes::cases(),
        transport::cases(),
    ]
    .concat()
}

/// Runs the cases one by one, but for the slow ones, which run beside the others. Prints the table.
#[test]
fn every_requirement_holds_on_the_wire() {
    let server = Server::start(&["--max-size", "4GiB"]);
    let only = std::env::var("TWOFOLD_CASE").ok();
    let cases: Vec<Case> =
        all_cases().into_iter().filter(|case| only.as_ref().is_none_or(|only| case.name.contains(only))).collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let results = runtime.block_on(async {
        let slow: Vec<_> = cases
            .iter()
            .map(|case| case.is_slow.then(|| tokio::spawn(guarded(case.clone(), Context::new(&server, case.name)))))
            .collect();
        let mut results = Vec::new();
        for (case, slow) in cases.iter().zip(slow) {
            let task = slow.unwrap_or_else(|| tokio::spawn(guarded(case.clone(), Context::new(&server, case.name))));
            results.push((case.name, task.await.map_err(|error| reason(error.into_panic()))));
        }
        results
    });
    let faults = requirements::print_table(&results, only.is_none());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

async fn guarded(case: Case, context: Context) {
    tokio::time::timeout(PATIENCE, (case.run)(context)).await.expect("the case ends in time");
}

fn reason(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
