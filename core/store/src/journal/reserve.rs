//! What a full disk means to the journal, and the room that is kept for it: without that nobody could say that an upload
//! has ended, no segment would ever die, and a journal that filled its own disk would stay full for ever.

use super::low_water::remove;
use super::names::RESERVE;
use crate::seldom::Seldom;
use crate::world::{Clock, Disk, DiskError, Mono, World};
use bytes::Bytes;
use parking_lot::Mutex;
use std::time::Duration;

/// The beginning of a segment, the low-water mark, and the ends of the uploads of many rounds. Bytes.
const RESERVE_BYTES: usize = 128 << 10;
/// On a disk that was full the reserve is tried for so often.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// Whether the disk is full: then nothing that grows is taken until the reserve is there again.
#[derive(Default)]
pub(super) struct Starved {
    state: Mutex<State>,
    /// A disk may have room for the reserve, and for nothing more, again and again.
    seldom: Seldom,
}

#[derive(Default)]
struct State {
    why: Option<DiskError>,
    /// The log says that it is full.
    said: bool,
    /// When the reserve is tried for again.
    again_at: Mono,
}

impl Starved {
    pub(super) fn why(&self) -> Option<DiskError> {
        self.state.lock().why.clone()
    }

    /// Says whether that is news.
    pub(super) fn begin(&self, error: &DiskError, now: Mono) -> bool {
        let mut state = self.state.lock();
        let news = state.why.replace(error.clone()).is_none();
        if news && let Some(kept_back) = self.seldom.due(now) {
            state.said = true;
            tracing::warn!(
                %error,
                kept_back,
                "the journal's disk is full: puts of level journal are refused until there is room"
            );
        }
        news
    }

    /// Says whether there was any trouble.
    fn end(&self) -> bool {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.said) {
            tracing::info!("the journal's disk has room again");
        }
        state.why.take().is_some()
    }

    /// Whether it is time to look for room again.
    pub(super) fn is_due(&self, now: Mono) -> bool {
        let state = self.state.lock();
        state.why.is_some() && now >= state.again_at
    }

    /// Takes the reserve; with it the trouble ends. Says whether there was any; fails where the disk is full.
    pub(super) async fn try_to_end<W: World>(&self, world: &W, dir: &str) -> Result<bool, DiskError> {
        self.state.lock().again_at = world.clock().mono().plus(PAUSE);
        match take(world.disk(), dir).await {
            Err(full @ DiskError::NoSpace { .. }) => return Err(full),
            Err(error) => tracing::warn!(%error, "the journal keeps no room for a disk that is full"),
            Ok(()) => {}
        }
        Ok(self.end())
    }
}

/// Takes the room, where it is not taken.
async fn take<D: Disk>(disk: &D, dir: &str) -> Result<(), DiskError> {
    let path = format!("{dir}/{RESERVE}");
    if disk.len(&path).await.is_ok_and(|len| len == RESERVE_BYTES as u64) {
        return Ok(());
    }
    remove(disk, &path).await?;
    let taken = async {
        disk.create(&path).await?;
        disk.append(&path, &[Bytes::from(vec![0xff; RESERVE_BYTES])]).await?;
        disk.sync(&path).await
    };
    let taken = taken.await;
    if taken.is_err() {
        let _ = remove(disk, &path).await;
    }
    taken
}

/// Gives the room back. Says whether there was any.
pub(super) async fn give<D: Disk>(disk: &D, dir: &str) -> bool {
    disk.remove(&format!("{dir}/{RESERVE}")).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_full_again_and_again_is_news_to_the_queue_and_seldom_to_the_log() {
        let starved = Starved::default();
        let full = DiskError::NoSpace { path: "journal".to_owned(), detail: "full".to_owned() };
        let said = [0, 1, 2, 11].map(|second| {
            assert!(starved.begin(&full, Mono(0).plus(Duration::from_secs(second))));
            assert!(!starved.begin(&full, Mono(0).plus(Duration::from_secs(second))));
            let said = starved.state.lock().said;
            assert!(starved.end() && !starved.end() && starved.why().is_none());
            said
        });
        assert_eq!(said, [true, false, false, true]);
    }
}
