use std::sync::Arc;

use backends::{Embedded, Mending, Work};

use super::{Fsck, FsckReport};

/// Checks everything, and mends it unless only told to look.
pub(super) async fn run(store: &Embedded, fsck: &Fsck, work: Arc<Work>) -> anyhow::Result<FsckReport> {
    let mending = if fsck.dry_run { Mending::LookOnly } else { Mending::Mend };
    Ok(FsckReport::new(store.check(mending, work).await?, fsck.dry_run))
}
