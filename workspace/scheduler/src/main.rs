//! Fires what is due.

use std::process::ExitCode;

use rekey_operations::{
    Worker,
    program::{Process, Program, run},
};

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
    };
    rekey_scheduler::run(deps, process.shutdown).await;
}
