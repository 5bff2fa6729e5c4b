//! Turns requests for rotations into switches of keys and plans of batches.

use std::process::ExitCode;

use rekey_deployment::program::{Process, Program, run};
use rekey_domain::Worker;
use rekey_messages::Queue;

const PROGRAM: Program = Program {
    worker: Worker::Rotator,
    queues: &[Queue::Rotator, Queue::Requests, Queue::Reports],
};

#[tokio::main]
async fn main() -> ExitCode {
    run(PROGRAM, work).await
}

async fn work(process: Process) {
    let deps = rekey_rotator::Deps {
        services: process.services,
        transport: process.transport,
        requesters: process.requesters,
    };
    rekey_rotator::run(deps, process.shutdown).await;
}
