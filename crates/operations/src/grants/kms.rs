//! What each worker asks of the KMS, as a statement of the master key's policy.

use serde_json::{Value, json};

use super::Worker;

/// Only the rotator makes keys; the re-encryptor unwraps them; the scheduler has nothing to do there.
pub(super) fn statement(worker: Worker) -> Option<Value> {
    let actions: &[&str] = match worker {
        Worker::Scheduler => return None,
        Worker::Rotator => &["kms:GenerateDataKey", "kms:Decrypt", "kms:DescribeKey"],
        Worker::ReEncryptor => &["kms:Decrypt", "kms:DescribeKey"],
    };
    let name = worker.name();
    Some(json!({
        "Sid": format!("rekey-{name}"),
        "Effect": "Allow",
        "Principal": { "AWS": format!("arn:aws:iam::ACCOUNT:role/rekey-{name}") },
        "Action": actions,
        "Resource": "*",
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_rotator_may_make_data_keys() {
        for worker in Worker::ALL {
            let policy = statement(worker).unwrap_or_default().to_string();
            let makes = policy.contains("kms:GenerateDataKey");
            assert_eq!(makes, worker == Worker::Rotator, "{policy}");
            for never in ["Encrypt\"", "CreateKey", "ReEncrypt", "kms:*"] {
                assert!(!policy.contains(never), "{policy}");
            }
        }
    }
}
