//! What is asked of the KMS, beside the policies that `rekey grants` prints: enough, and no more.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use rekey_broker::LocalTransport;
use rekey_deployment::{Places, rights};
use rekey_domain::{KeyId, KeyringName, Purpose, Role, RotationState, Worker};
use rekey_envelope::KeyMaterial;
use rekey_kms::{
    EncryptionContext, GeneratedKey, Kms, KmsError, MasterKeyInfo, RewrappedKey, WrappedKey,
};
use rekey_operations::{Services, StartWith, rotate_master, verify_audit};
use rekey_store::keyrings;
use rekey_tests::{
    roles::at_aws,
    support::{Deployment, Engine, operator, phi, until},
};
use serde_json::Value;
use uuid::Uuid;

/// One request, as AWS authorises it.
#[derive(Debug, Clone, PartialEq)]
struct Call {
    action: &'static str,
    context: Option<EncryptionContext>,
}

/// A KMS that writes down what it is asked for.
#[derive(Clone)]
struct Recording {
    inner: Arc<dyn Kms>,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Recording {
    /// A process with connections and keys of its own, and what it asks for.
    async fn process(clinic: &Deployment, who: Role) -> (Services, Self) {
        let process = clinic.process(who.name()).await;
        let recording = Self {
            inner: process.kms.clone(),
            calls: Arc::default(),
        };
        let principal = match who {
            Role::Worker(worker) => worker.principal(),
            Role::Operator => operator(),
        };
        let kms = Arc::new(recording.clone());
        (Services::new(process.store, kms, principal), recording)
    }

    fn note(&self, actions: &[&'static str], context: Option<&EncryptionContext>) {
        let mut calls = self.calls.lock().unwrap();
        let context = context.copied();
        calls.extend(actions.iter().map(|action| Call { action, context }));
        // AWS is asked where the master key is, whatever else it is asked.
        let describe = Call {
            action: "kms:DescribeKey",
            context: None,
        };
        calls.push(describe);
    }

    /// Each kind of call once: by action and purpose.
    fn asked(&self) -> Vec<Call> {
        let mut seen: Vec<Call> = Vec::new();
        for call in self.calls.lock().unwrap().iter() {
            let kind = |call: &Call| (call.action, call.context.map(|context| context.purpose));
            if !seen.iter().any(|other| kind(other) == kind(call)) {
                seen.push(call.clone());
            }
        }
        seen
    }
}

#[async_trait]
impl Kms for Recording {
    fn place(&self) -> String {
        self.inner.place()
    }

    async fn generate_data_key(&self, to: &EncryptionContext) -> Result<GeneratedKey, KmsError> {
        self.note(&["kms:GenerateDataKey"], Some(to));
        self.inner.generate_data_key(to).await
    }

    async fn decrypt(
        &self,
        wrapped: &WrappedKey,
        context: &EncryptionContext,
    ) -> Result<KeyMaterial, KmsError> {
        self.note(&["kms:Decrypt"], Some(context));
        self.inner.decrypt(wrapped, context).await
    }

    async fn describe(&self) -> Result<MasterKeyInfo, KmsError> {
        self.note(&[], None);
        self.inner.describe().await
    }

    async fn wrapped_by(
        &self,
        wrapped: &WrappedKey,
        context: &EncryptionContext,
    ) -> Result<String, KmsError> {
        self.note(&["kms:Decrypt"], Some(context));
        self.inner.wrapped_by(wrapped, context).await
    }

    async fn rewrap(
        &self,
        wrapped: &WrappedKey,
        context: &EncryptionContext,
        master_key: &str,
    ) -> Result<RewrappedKey, KmsError> {
        self.note(&["kms:ReEncryptFrom", "kms:ReEncryptTo"], Some(context));
        self.inner.rewrap(wrapped, context, master_key).await
    }

    async fn wrap(
        &self,
        material: &KeyMaterial,
        context: &EncryptionContext,
    ) -> Result<RewrappedKey, KmsError> {
        self.note(&["kms:Encrypt"], Some(context));
        self.inner.wrap(material, context).await
    }

    async fn new_master_key(&self) -> Result<MasterKeyInfo, KmsError> {
        let actions = ["kms:CreateKey", "kms:TagResource", "kms:UpdateAlias"];
        self.note(&actions, None);
        self.inner.new_master_key().await
    }
}

/// What `rekey grants` prints for someone; none: nothing is allowed.
async fn policy(clinic: &Deployment, who: Role) -> Value {
    let places = Places::resolve(Some(PathBuf::from("nowhere")), at_aws()).unwrap();
    let all = rights(&clinic.services, &places, "rekey_", "/")
        .await
        .unwrap();
    let of = all.into_iter().find(|one| one.worker == who).unwrap();
    of.kms.unwrap_or_default()
}

/// As AWS decides: some statement has the action, and each of its conditions holds. A key of a context
/// that the request does not have fulfils none.
fn allows(policy: &Value, call: &Call) -> bool {
    let context = call.context.map(|context| context.pairs());
    let value = |key: &str| {
        let name = key.strip_prefix("kms:EncryptionContext:").unwrap();
        let mut pairs = context.iter().flatten();
        pairs
            .find(|(of, _)| *of == name)
            .map(|(_, value)| value.clone())
    };
    let holds = |(key, wanted): (&String, &Value)| {
        let Some(found) = value(key) else {
            return false;
        };
        match wanted {
            Value::Array(any) => any.iter().any(|one| *one == found),
            one => *one == found,
        }
    };
    let statements = policy["Statement"].as_array();
    statements.into_iter().flatten().any(|statement| {
        let actions = statement["Action"].as_array().unwrap();
        let conditions = statement["Condition"]["StringEquals"].as_object();
        assert_eq!(statement["Effect"], "Allow");
        actions.iter().any(|action| action == call.action)
            && conditions.into_iter().flatten().all(holds)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_asked_of_the_kms_is_allowed_by_what_is_printed() {
    let clinic = Deployment::of(60).await;
    let [scheduler, rotator, re_encryptor, ..] = Worker::ALL.map(Role::from);
    let mut engine = Engine::default();
    let transport = Arc::new(LocalTransport::new(clinic.services.store.clone()));
    let mut asked = Vec::new();
    for who in [scheduler, rotator, re_encryptor] {
        let (services, recording) = Recording::process(&clinic, who).await;
        match who {
            Role::Worker(Worker::Scheduler) => engine.scheduler(&services),
            Role::Worker(Worker::Rotator) => engine.rotator(&services, transport.clone()),
            _ => engine.re_encryptor(&services, transport.clone()),
        }
        engine.listen(&services, transport.clone());
        asked.push((who, recording));
    }
    for keyring in ["phi", "audit", "signing"] {
        let keyring: KeyringName = keyring.parse().unwrap();
        clinic.rotate(&keyring).await;
        clinic.reaches(&keyring, RotationState::Completed).await;
    }
    let unsigned = "SELECT count(*) FROM rotation WHERE certificate_due IS NOT NULL";
    until("signatures", async || {
        (clinic.count(unsigned).await == 0).then_some(())
    })
    .await;
    engine.stop().await;
    let (services, recording) = Recording::process(&clinic, Role::Operator).await;
    let log = verify_audit(&services, &operator()).await.unwrap();
    assert_eq!(log.problems, Vec::<String>::new());
    let (column, bind) = ("clinic.patients.ssn", [1.into()]);
    let sealed = services.client.encrypt(column, &bind, b"1").await.unwrap();
    services
        .client
        .decrypt(column, &bind, &sealed)
        .await
        .unwrap();
    let master = rotate_master(&services, StartWith::NewMasterKey, &operator()).await;
    master.unwrap();
    asked.push((Role::Operator, recording));

    for (who, recording) in asked {
        let (policy, calls) = (policy(&clinic, who).await, recording.asked());
        assert_eq!(calls.is_empty(), who == scheduler, "{}", who.name());
        for call in calls {
            assert!(
                allows(&policy, &call),
                "{}: {call:?} by {policy}",
                who.name()
            );
        }
    }
}

#[tokio::test]
async fn no_worker_may_open_keys_that_its_work_does_not_take() {
    let clinic = Deployment::of(0).await;
    let keyring = keyrings::by_name(clinic.services.store.db(), &phi())
        .await
        .unwrap();
    let deployment = keyrings::deployment(clinic.services.store.db())
        .await
        .unwrap();
    let call = |action, purpose, deployment| Call {
        action,
        context: Some(EncryptionContext {
            deployment,
            keyring: keyring.id,
            key_id: KeyId::new(1),
            purpose,
        }),
    };
    use Purpose::{Audit, Backup, Phi, Signing};
    for (worker, opens) in [
        (Worker::Scheduler, vec![]),
        (Worker::Rotator, vec![Audit, Signing]),
        (Worker::ReEncryptor, vec![Phi, Audit]),
    ] {
        let policy = policy(&clinic, worker.into()).await;
        for purpose in [Phi, Audit, Backup, Signing] {
            let own = call("kms:Decrypt", purpose, deployment);
            let may = opens.contains(&purpose);
            assert_eq!(allows(&policy, &own), may, "{} {purpose}", worker.name());
            let of_another = call("kms:Decrypt", purpose, Uuid::now_v7());
            assert!(!allows(&policy, &of_another), "{}", worker.name());
            let makes = call("kms:GenerateDataKey", purpose, deployment);
            assert_eq!(allows(&policy, &makes), worker == Worker::Rotator);
        }
        let unbound = Call {
            action: "kms:Decrypt",
            context: None,
        };
        assert!(!allows(&policy, &unbound), "{}", worker.name());
    }
}
