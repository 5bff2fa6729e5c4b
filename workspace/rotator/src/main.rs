//! Turns requests for rotations into switches of keys and plans of batches.

use std::process::ExitCode;

use rekey_messages::Queue;
use rekey_operations::program::{Process, Program, run};

const PROGRAM: Program = Program {
    name: "rotator",
    queues: &[Queue::Rotator, Queue::Requests],
    uses_keys: true,
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
