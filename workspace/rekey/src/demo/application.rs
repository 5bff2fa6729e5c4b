//! The application of the demo: goes on inserting, updating, deleting and reading, through `client`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context;
use rekey_client::Client;
use rekey_domain::Principal;
use rekey_envelope::{decode_base64, encode_base64};
use rekey_operations::StoreLeases;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    demo::{
        clinic::{Clinic, Sealed},
        patients::Patient,
    },
};

const SSN: &str = "clinic.patients.ssn";
const NOTES: &str = "clinic.patients.notes";
/// Between two writes of the application.
const PACE: Duration = Duration::from_millis(5);

/// The application and what it last wrote.
pub struct Application {
    client: Client,
    clinic: Box<dyn Clinic>,
    /// The revision each living patient has.
    truth: BTreeMap<i64, u32>,
    next_id: i64,
    writes: u64,
    reads_failed: u64,
}

/// An application that is writing.
pub struct Writing {
    task: JoinHandle<anyhow::Result<Application>>,
    stop: CancellationToken,
}

/// What reading everything back showed.
pub struct Verdict {
    /// Rows there are.
    pub rows: u64,
    /// Rows that are not what the application last wrote.
    pub wrong: u64,
    /// Reads that failed while the rotation ran.
    pub reads_failed: u64,
    /// Writes the application made while the rotation ran.
    pub writes: u64,
}

impl Application {
    /// Fills the table with `rows` patients.
    pub async fn start(app: &App, clinic: Box<dyn Clinic>, rows: u32) -> anyhow::Result<Self> {
        let mut application = Self {
            client: client(app),
            clinic,
            truth: BTreeMap::new(),
            next_id: 1,
            writes: 0,
            reads_failed: 0,
        };
        let last = i64::from(rows);
        while application.next_id <= last {
            let ids: Vec<i64> = (application.next_id..=last).take(500).collect();
            application.insert(&ids).await?;
        }
        Ok(application)
    }

    /// The same application, started again on a deployment that was brought back.
    pub fn reopened(self, app: &App) -> Self {
        let client = client(app);
        Self { client, ..self }
    }

    /// Writes until it is stopped.
    pub fn write_until_stopped(self) -> Writing {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut application = self;
            while !stopped.is_cancelled() {
                application.do_something().await?;
                tokio::time::sleep(PACE).await;
            }
            Ok(application)
        });
        Writing { task, stop }
    }

    async fn do_something(&mut self) -> anyhow::Result<()> {
        self.writes += 1;
        match rand::random_range(0..10) {
            0..=1 => self.insert(&[self.next_id]).await,
            2 if self.truth.len() > 1 => self.delete().await,
            3 => self.read().await,
            _ => self.update().await,
        }
    }

    fn someone(&self) -> i64 {
        let from = rand::random_range(0..self.next_id);
        let at_or_after = self
            .truth
            .range(from..)
            .next()
            .or_else(|| self.truth.iter().next());
        *at_or_after.map_or(&1, |(id, _)| id)
    }

    async fn sealed(&self, id: i64, patient: &Patient) -> anyhow::Result<Sealed> {
        let bind = [id.into()];
        let ssn = self.client.encrypt(SSN, &bind, patient.ssn.as_bytes());
        let ssn = ssn.await?;
        let notes = self.client.encrypt(NOTES, &bind, patient.notes.as_bytes());
        let notes = encode_base64(&notes.await?);
        Ok(Sealed { id, ssn, notes })
    }

    async fn insert(&mut self, ids: &[i64]) -> anyhow::Result<()> {
        let mut patients = Vec::new();
        for id in ids {
            let patient = Patient::of(*id, 0);
            let sealed = self.sealed(*id, &patient).await?;
            patients.push((patient.name, sealed));
        }
        self.clinic.insert(&patients).await?;
        self.truth.extend(ids.iter().map(|id| (*id, 0)));
        self.next_id = ids.last().map_or(self.next_id, |id| id + 1);
        Ok(())
    }

    async fn update(&mut self) -> anyhow::Result<()> {
        let id = self.someone();
        let revision = self.truth.get(&id).map_or(0, |revision| revision + 1);
        let patient = self.sealed(id, &Patient::of(id, revision)).await?;
        self.clinic.update(&patient).await?;
        self.truth.insert(id, revision);
        Ok(())
    }

    async fn delete(&mut self) -> anyhow::Result<()> {
        let id = self.someone();
        self.clinic.delete(id).await?;
        self.truth.remove(&id);
        Ok(())
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        let sealed = self.clinic.read(self.someone()).await?;
        let read_back = self.reads_back(&sealed).await;
        self.reads_failed += u64::from(!matches!(read_back, Ok(true)));
        Ok(())
    }

    async fn reads_back(&self, sealed: &Sealed) -> anyhow::Result<bool> {
        let Some(revision) = self.truth.get(&sealed.id) else {
            return Ok(false);
        };
        let patient = Patient::of(sealed.id, *revision);
        let bind = [sealed.id.into()];
        let ssn = self.client.decrypt(SSN, &bind, &sealed.ssn).await?;
        let notes = decode_base64(&sealed.notes)?;
        let notes = self.client.decrypt(NOTES, &bind, &notes).await?;
        Ok(*ssn == patient.ssn.as_bytes() && *notes == patient.notes.as_bytes())
    }

    /// Decrypts every row and compares it with what was last written.
    pub async fn verify_all(&self) -> anyhow::Result<Verdict> {
        let mut verdict = Verdict {
            rows: 0,
            wrong: 0,
            reads_failed: self.reads_failed,
            writes: self.writes,
        };
        let mut after = 0_i64;
        loop {
            let patients = self.clinic.page(after).await?;
            let Some(last) = patients.last() else { break };
            after = last.id;
            for sealed in &patients {
                verdict.rows += 1;
                verdict.wrong += u64::from(!matches!(self.reads_back(sealed).await, Ok(true)));
            }
        }
        self.client.flush().await?;
        // A row that is missing is as wrong as one that reads otherwise.
        verdict.wrong += (self.truth.len() as u64).abs_diff(verdict.rows);
        Ok(verdict)
    }
}

impl Writing {
    /// Stops the application and gives it back.
    pub async fn stop(self) -> anyhow::Result<Application> {
        self.stop.cancel();
        self.task
            .await
            .context("the application panicked")?
            .context("the application failed while the rotation ran")
    }
}

/// An application is a principal of its own, with its own leases and cached keys.
fn client(app: &App) -> Client {
    let services = &app.services;
    let (store, kms) = (services.store.clone(), services.kms.clone());
    let leases = StoreLeases::audited(store, Principal::app("demo"), kms.clone());
    let client = Client::new(Arc::new(leases), kms);
    tokio::spawn(follow(client.clone(), app.transport.broadcasts()));
    client
}

async fn follow(
    client: Client,
    mut broadcasts: tokio::sync::broadcast::Receiver<rekey_messages::Event>,
) {
    while let Ok(event) = broadcasts.recv().await {
        if let Ok(rekey_messages::KeyringChanged { keyring }) = event.message() {
            client.keyring_changed(&keyring);
        }
    }
}
