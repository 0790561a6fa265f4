//! Panics of a world: where, and the sentence, kept instead of printed.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};

thread_local! {
    /// The last panic of this thread.
    static LAST: RefCell<Option<Panic>> = const { RefCell::new(None) };
}

/// A panic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panic {
    /// File and line; empty if panics are not kept.
    at: String,
    said: String,
}

impl Panic {
    /// Whether it comes from this workspace's sources. If not, it is no assertion of ours.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.at.starts_with("node/")
    }

    fn of(payload: &(dyn Any + Send)) -> Self {
        let said = payload.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or_default();
        Self { at: String::new(), said: said.to_owned() }
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "panic in {}: {}", self.at, self.said)
    }
}

/// From now on panics are kept for [`caught`], and not printed.
pub fn keep() {
    panic::set_hook(Box::new(|info| {
        let at = info.location().map_or_else(String::new, |at| format!("{}:{}", at.file(), at.line()));
        let said = info.payload_as_str().unwrap_or_default().replace('\n', " ");
        LAST.with_borrow_mut(|last| *last = Some(Panic { at, said }));
    }));
}

/// Runs something that may panic.
///
/// # Errors
/// The panic.
pub fn caught<T>(run: impl FnOnce() -> T) -> Result<T, Panic> {
    panic::catch_unwind(AssertUnwindSafe(run))
        .map_err(|payload| LAST.take().unwrap_or_else(|| Panic::of(&*payload)))
}
