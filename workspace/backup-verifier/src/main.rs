//! Backs keys up and proves that they come back.

use std::process::ExitCode;

use rekey_deployment::program::{Process, Program, run};
use rekey_domain::Worker;

const PROGRAM: Program = Program {
    worker: Worker::BackupVerifier,
    queues: &[],
};

#[tokio::main]
async fn main() -> ExitCode {
    run(PROGRAM, work).await
}

async fn work(process: Process) {
    let deps = rekey_backup_verifier::Deps::new(process.services, &process.monitoring);
    rekey_backup_verifier::run(deps, process.shutdown).await;
}
