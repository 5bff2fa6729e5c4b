//! A deployment, opened by the person who runs this program.

use std::sync::Arc;

use rekey_broker::Transport;
use rekey_deployment::{Places, program::as_many_as_processors};
use rekey_domain::Principal;
use rekey_messages::Queue;
use rekey_operations::{Change, Desired, OperationError, Services};
use rekey_runtime::account;

use crate::output::Output;

/// What `rekey up` takes messages of.
const QUEUES: [Queue; 5] = [
    Queue::Rotator,
    Queue::Requests,
    Queue::Reports,
    Queue::ReEncryptorUrgent,
    Queue::ReEncryptor,
];

/// A deployment, opened by one principal.
pub struct App {
    /// What operations work with.
    pub services: Services,
    /// Carries messages, once it is run.
    pub transport: Arc<dyn Transport>,
    /// Where everything is.
    pub places: Places,
    /// What the configuration says there should be.
    pub desired: Desired,
    /// Who runs this program, as the system knows it: no variable can say another name.
    pub principal: Principal,
    /// How results are printed.
    pub output: Output,
}

impl App {
    /// Makes what is missing, opens the deployment, and says so if it made the master key.
    pub async fn create(
        places: Places,
        desired: Desired,
        output: Output,
    ) -> Result<(Self, Option<Change>), OperationError> {
        let (services, made) = places.make(person()).await?;
        Ok((Self::wire(places, services, desired, output)?, made))
    }

    /// Makes the store of a deployment that is brought back; with `makes_master_key` its master key too, as that is lost.
    pub async fn create_to_restore(
        places: Places,
        desired: Desired,
        output: Output,
        makes_master_key: bool,
    ) -> Result<Self, OperationError> {
        let services = match makes_master_key {
            true => places.make(person()).await?.0,
            false => places.make_store(person()).await?,
        };
        Self::wire(places, services, desired, output)
    }

    /// Opens a deployment to look at how things stand, its master key reached or not.
    pub async fn open_to_look(
        places: Places,
        desired: Desired,
        output: Output,
    ) -> Result<Self, OperationError> {
        let services = places.connect_to_look(person()).await?;
        Self::wire(places, services, desired, output)
    }

    /// Opens a deployment that `rekey init` made.
    pub async fn open(
        places: Places,
        desired: Desired,
        output: Output,
    ) -> Result<Self, OperationError> {
        let services = places.connect(person()).await?;
        Self::wire(places, services, desired, output)
    }

    fn wire(
        places: Places,
        services: Services,
        desired: Desired,
        output: Output,
    ) -> Result<Self, OperationError> {
        let slots = as_many_as_processors();
        let transport = places.transport(&services.store, "rekey", &QUEUES, slots)?;
        let desired = Desired {
            destinations: places.destination_names(),
            ..desired
        };
        let desired = desired.with_store(&places.store_url(false));
        Ok(Self {
            services,
            transport,
            places,
            desired,
            principal: person(),
            output,
        })
    }
}

/// Who runs this program.
pub fn person() -> Principal {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    Principal::os(&account(), if host.is_empty() { "localhost" } else { host })
}
