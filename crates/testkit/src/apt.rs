//! Installs Debian packages, where that is allowed: as root, or by sudo without a password.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use crate::process::run;

/// Read by Debian's packages: they start no service while it says so.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs `packages`.
pub(crate) fn install(packages: &[&str]) -> Result<(), String> {
    let wanted = packages.join(" ");
    let not_allowed = || format!("not root and no sudo without a password; install {wanted}");
    let by = by_whom().ok_or_else(not_allowed)?;
    let _quiet = by.is_empty().then(NoServices::start);
    run(apt_get(by).arg("update"))?;
    run(apt_get(by)
        .args(["install", "--yes", "--no-install-recommends"])
        .args(packages))?;
    Ok(())
}

/// Whether this process is root's.
pub(crate) fn is_root() -> bool {
    run(Command::new("id").arg("-u")).is_ok_and(|id| id == "0")
}

/// What goes before a command: nothing as root, otherwise sudo.
fn by_whom() -> Option<&'static [&'static str]> {
    if is_root() {
        return Some(&[]);
    }
    let sudo = Command::new("sudo").args(["-n", "true"]).output();
    let sudo = sudo.is_ok_and(|sudo| sudo.status.success());
    sudo.then_some(&["sudo", "-n", "DEBIAN_FRONTEND=noninteractive"])
}

fn apt_get(by: &[&str]) -> Command {
    let mut words = by.iter().copied().chain(["apt-get"]);
    let mut command = Command::new(words.next().expect("there is at least apt-get"));
    command.args(words).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// As long as it lives, packages start no service at their installation; ours run on ports of their own.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn start() -> Self {
        let path = Path::new(POLICY);
        let ours = !path.exists()
            && fs::write(path, "#!/bin/sh\nexit 101\n").is_ok()
            && fs::set_permissions(path, fs::Permissions::from_mode(0o755)).is_ok();
        Self { ours }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}
