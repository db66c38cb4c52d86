//! Noticing that the machine has slept: during sleep the wall clock goes on, and the steady clock of most systems stands
//! still.

use std::time::Duration;

use crate::sync::{Instant, SystemTime};

/// By how much more the wall clock has moved than the steady one. Smaller differences are corrections of the wall clock.
const MIN_SLEEP: Duration = Duration::from_secs(5);

/// Compares the two clocks at each look. A wall clock that was set forward looks like a sleep; what follows is harmless.
#[derive(Default)]
pub(crate) struct SleepDetector {
    last: Option<(Instant, SystemTime)>,
}

impl SleepDetector {
    /// Whether the machine has slept since the last look.
    pub fn has_slept(&mut self, now: Instant, wall: SystemTime) -> bool {
        let Some((last_now, last_wall)) = self.last.replace((now, wall)) else { return false };
        // A wall clock that was set back has not moved.
        let moved = wall.duration_since(last_wall).unwrap_or_default();
        moved >= now.saturating_duration_since(last_now) + MIN_SLEEP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_sleep_is_noticed_once_and_small_or_backward_steps_of_the_wall_clock_are_none() {
        let (mut detector, mut now, mut wall) = (SleepDetector::default(), Instant::now(), SystemTime::now());
        assert!(!detector.has_slept(now, wall), "the first look");
        for (steady, walled, has_slept) in [
            (SECOND, SECOND, false),
            (SECOND, 5 * SECOND, false),
            (SECOND, 6 * SECOND, true),
            (SECOND, SECOND, false),
            (600 * SECOND, 601 * SECOND, false),
            (Duration::ZERO, 3600 * SECOND, true),
        ] {
            (now, wall) = (now + steady, wall + walled);
            assert_eq!(detector.has_slept(now, wall), has_slept, "{steady:?} {walled:?}");
        }
        wall -= 60 * SECOND;
        assert!(!detector.has_slept(now + SECOND, wall));
        assert!(!detector.has_slept(now + SECOND, wall + SECOND));
    }
}
