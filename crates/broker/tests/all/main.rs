//! What every transport promises, run for each; and what only RabbitMQ can do, or suffer.

#![expect(
    clippy::shadow_unrelated,
    reason = "a test looks at one thing again and again"
)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod dead_letters;
mod faults;
mod relay;
mod rights;
mod suite;
mod tls;
mod world;

use world::{Local, Rabbit};

/// One test a case and transport.
macro_rules! conformance {
    ($kind:ident, $world:ty, [$($case:ident,)*]) => {
        mod $kind {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                suite::$case(&<$world as world::World>::new().await).await;
            })*
        }
    };
    ($($kind:ident: $world:ty,)*) => {
        $(conformance!($kind, $world, [
            what_was_committed_is_delivered_once_while_nobody_dies,
            what_was_not_committed_is_never_delivered,
            a_returned_message_comes_again,
            a_delivery_is_settled_once,
            a_message_being_worked_on_is_nobody_elses,
            what_a_dead_process_held_comes_again,
            what_is_for_every_process_reaches_each_and_no_queue,
            what_is_urgent_overtakes_all_that_waits,
            each_queue_gets_its_own,
        ]);)*
    };
}

conformance! {
    local: Local,
    rabbitmq: Rabbit,
}
