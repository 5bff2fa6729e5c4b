//! What a process that holds keys gives up: core dumps, and being read by other processes of its user.

use std::io;

use nix::sys::{
    prctl,
    resource::{Resource, setrlimit},
};

/// No core dump ever holds key material, and no debugger of the same user attaches. First thing in
/// `main`, before a key is in memory.
///
/// # Errors
/// What the system says; the process should then not start.
pub fn harden() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    prctl::set_dumpable(false)?;
    Ok(())
}

/// One TLS provider in the process, for databases, broker and KMS alike.
pub fn install_tls_provider() {
    // A second call, as in tests, finds the same provider there.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hardened_process_dumps_no_core_and_cannot_be_read() {
        harden().unwrap();
        assert!(!prctl::get_dumpable().unwrap());
        let limits = nix::sys::resource::getrlimit(Resource::RLIMIT_CORE).unwrap();
        assert_eq!(limits, (0, 0));
    }
}
