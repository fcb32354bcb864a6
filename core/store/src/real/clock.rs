//! The machine's clocks.

use crate::world::{Clock, Mono};
use std::future::Future;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Monotone time since this value was made, the machine's wall clock, tokio's timers.
#[derive(Debug, Clone, Copy)]
pub struct RealClock {
    start: Instant,
}

impl RealClock {
    #[expect(clippy::disallowed_methods, reason = "the real form of the clock seam")]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for RealClock {
    fn mono(&self) -> Mono {
        Mono::default().plus(self.start.elapsed())
    }

    /// A wall clock before 1970 reads 0.
    #[expect(clippy::disallowed_methods, reason = "the real form of the clock seam")]
    fn wall_ms(&self) -> u64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "the real form of the clock seam; simulated, the path is another crate's"
    )]
    #[expect(clippy::manual_async_fn, reason = "the trait asks for a future that outlives the clock's borrow")]
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + 'static {
        // The timer is made at the first poll: making it needs the runtime's context.
        async move {
            tokio::time::sleep(duration).await;
        }
    }
}
