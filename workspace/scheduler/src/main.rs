//! Fires what is due.

use std::process::ExitCode;

use rekey_deployment::program::{Process, Program, run};
use rekey_domain::Worker;

const PROGRAM: Program = Program {
    worker: Worker::Scheduler,
    queues: &[],
};

#[tokio::main]
async fn main() -> ExitCode {
    run(PROGRAM, work).await
}

async fn work(process: Process) {
    let deps = rekey_scheduler::Deps {
        services: process.services,
        expiration_warning: process.monitoring.expiration_warning,
    };
    rekey_scheduler::run(deps, process.shutdown).await;
}
