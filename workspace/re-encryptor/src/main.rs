//! Moves batches of rows from the old keys to the new.

use std::process::ExitCode;

use rekey_deployment::program::{Process, Program, run};
use rekey_domain::Worker;
use rekey_re_encryptor::QUEUES;

const PROGRAM: Program = Program {
    worker: Worker::ReEncryptor,
    queues: QUEUES,
};

#[tokio::main]
async fn main() -> ExitCode {
    run(PROGRAM, work).await
}

async fn work(process: Process) {
    let deps = rekey_re_encryptor::Deps {
        services: process.services,
        transport: process.transport,
        slots: usize::from(process.slots),
    };
    rekey_re_encryptor::run(deps, process.shutdown).await;
}
