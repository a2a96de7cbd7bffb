use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use store::StoreError;

use crate::LiveLimits;

/// The bound on what all uploads of unknown digest together keep in files.
pub(super) struct Room {
    limits: LiveLimits,
    taken: AtomicU64,
}

impl Room {
    pub(super) fn new(limits: LiveLimits) -> Self {
        Self { limits, taken: AtomicU64::new(0) }
    }

    /// A share of the room, empty at first.
    pub(super) fn share(self: &Arc<Self>) -> Share {
        Share { room: self.clone(), bytes: 0 }
    }
}

/// What one upload takes of the room; given back when dropped.
pub(super) struct Share {
    room: Arc<Room>,
    bytes: u64,
}

impl Share {
    /// Takes as much more as `bytes` in all need.
    pub(super) fn cover(&mut self, bytes: u64) -> Result<(), StoreError> {
        self.grow(bytes.saturating_sub(self.bytes))
    }

    fn grow(&mut self, bytes: u64) -> Result<(), StoreError> {
        let max = self.room.limits.now().unknown_uploads_bytes;
        let fits = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= max);
        match self.room.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => {
                self.bytes += bytes;
                Ok(())
            }
            Err(_) => Err(StoreError::Full {
                needed_bytes: bytes,
                reason: format!("uploads of unknown digest take {max} bytes together at most"),
            }),
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;

    #[test]
    fn shares_never_exceed_the_room_and_are_given_back() {
        let room = Arc::new(Room::new(Limits { unknown_uploads_bytes: 10, ..Limits::default() }.into()));
        let (mut one, mut two) = (room.share(), room.share());
        assert!(one.grow(6).is_ok() && two.cover(3).is_ok() && two.cover(4).is_ok() && two.cover(2).is_ok());
        assert!(matches!(two.grow(1), Err(StoreError::Full { .. })));
        assert!(matches!(two.grow(u64::MAX), Err(StoreError::Full { .. })));
        drop(one);
        assert!(two.grow(6).is_ok());
    }
}
