//! Who runs this process and where, as the system knows it and the environment cannot say.

use nix::unistd::{User, geteuid, gethostname};

/// The name of the account whose rights this process has; `uid-10001` where the system has no name.
pub fn account() -> String {
    let uid = geteuid();
    let known = User::from_uid(uid).ok().flatten();
    known.map_or_else(|| format!("uid-{uid}"), |user| user.name)
}

/// What this machine is called.
pub fn hostname() -> String {
    let name = gethostname().ok();
    name.map_or_else(
        || "localhost".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}
