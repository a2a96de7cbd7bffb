use std::sync::Arc;

use backends::{Embedded, Work};

use super::{Gc, GcReport};

/// Evicts down to the goal, or tells what would go.
pub(super) async fn run(store: &Embedded, gc: &Gc, work: Arc<Work>) -> anyhow::Result<GcReport> {
    let goal = gc.goal();
    let collected = if gc.dry_run { store.plan(goal).await? } else { store.collect(goal, work).await? };
    Ok(GcReport::new(collected, gc.dry_run))
}
