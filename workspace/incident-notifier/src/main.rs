//! Tells people of incidents and alerts.

use std::process::ExitCode;

use rekey_deployment::program::{Process, Program, run};
use rekey_domain::Worker;

const PROGRAM: Program = Program {
    worker: Worker::IncidentNotifier,
    queues: &[],
};

#[tokio::main]
async fn main() -> ExitCode {
    run(PROGRAM, work).await
}

async fn work(process: Process) {
    let deps = rekey_incident_notifier::Deps {
        services: process.services,
        channels: process.channels,
        monitoring: process.monitoring,
    };
    rekey_incident_notifier::run(deps, process.shutdown).await;
}
