//! No encryption without having drawn it.

use std::sync::atomic::Ordering::SeqCst;

use rekey_domain::{FIRST_BLOCK, KeyId};

use super::fake::{Setup, keyring};
use crate::{ClientError, LeaseError, locked::locked};

#[tokio::test]
async fn blocks_double_and_large_draws_take_several() {
    let setup = Setup::new().await;
    let granted = || locked(&setup.leases.granted)[&KeyId::new(1)];
    for (count, blocks, total) in [
        (1, 1, FIRST_BLOCK),
        (FIRST_BLOCK - 1, 1, FIRST_BLOCK),
        (1, 2, 3 * FIRST_BLOCK),
        (10 * FIRST_BLOCK, 3, 11 * FIRST_BLOCK + 1),
        (1, 4, 19 * FIRST_BLOCK + 1),
    ] {
        setup
            .client
            .encryption_key(&keyring(), count)
            .await
            .unwrap();
        assert_eq!(
            (setup.leases.blocks.load(SeqCst), granted()),
            (blocks, total)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn concurrent_draws_never_pass_what_was_granted() {
    let limit = 3 * FIRST_BLOCK + 1_000;
    let setup = Setup::new().await;
    setup.leases.limit.store(limit, SeqCst);
    let workers: Vec<_> = (1..=32)
        .map(|count| {
            let client = setup.client.clone();
            tokio::spawn(async move {
                let mut made = 0;
                loop {
                    match client.encryption_key(&keyring(), count).await {
                        Ok(_) => made += count,
                        Err(ClientError::Lease(LeaseError::Exhausted { .. })) => return made,
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    let mut made = 0;
    for worker in workers {
        made += worker.await.unwrap();
    }
    assert_eq!(made, limit, "the last to stop takes one at a time");
    assert_eq!(locked(&setup.leases.granted)[&KeyId::new(1)], limit);
}
