//! A server runs, is killed and is asked whether it answers, wherever it runs.

use std::{panic, thread};

use tokio::runtime::{Builder, Runtime};

/// Killed processes lose nothing without fsync, only a killed machine does. But a commit is not to
/// return before it is written, as it would with `synchronous_commit=off`.
pub(crate) const SETTINGS: [&str; 6] = [
    // Who stands still in mid-login holds up every DROP DATABASE of the server.
    "authentication_timeout=5s",
    "fsync=off",
    "full_page_writes=off",
    "max_connections=600",
    "max_prepared_transactions=10",
    "wal_level=logical",
];

/// How Azurite is started, in a container or not: it keeps nothing, and takes versions of the protocol that it does not
/// know yet.
pub(crate) const AZURITE: [&str; 3] =
    ["--inMemoryPersistence", "--silent", "--skipApiVersionCheck"];

/// A server that runs. Dropped, it is gone with its data.
pub(crate) trait Running: Send {
    /// Kills it, as `kill -9` does. Its data stays.
    fn kill(&mut self);
    /// Starts it again on the same ports and data.
    fn restart(&mut self) -> Result<(), String>;
}

/// How to see that a server answers at its port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answers {
    pub(crate) port: u16,
    pub(crate) at: fn(u16) -> bool,
}

impl Answers {
    pub(crate) fn now(self) -> bool {
        (self.at)(self.port)
    }
}

/// Does something on a thread of its own, as the caller may be in an async runtime, where no other runtime can wait.
pub(crate) fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let done = thread::scope(|scope| scope.spawn(work).join());
    done.unwrap_or_else(|panicked| panic::resume_unwind(panicked))
}

pub(crate) fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("the operating system gives a runtime what it needs")
}
