//! RabbitMQ as a test sees it: its management API, names of a test's own, and a publisher from outside.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use lapin::{
    BasicProperties, Confirmation, Connection, ConnectionProperties,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::FieldTable,
};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::services;

/// The management API of the tests' RabbitMQ, as an administrator, on the virtual host of its AMQP URL.
#[derive(Debug, Clone)]
pub struct Management {
    api: String,
    vhost: String,
    client: Client,
}

impl Management {
    /// The API of the node that the environment names.
    ///
    /// # Panics
    /// When it names none.
    pub fn connect() -> Self {
        let (amqp, api) = (
            services::url(services::AMQP),
            services::url(services::RABBITMQ_API),
        );
        Self::of(&amqp, api)
    }

    fn of(amqp: &str, api: String) -> Self {
        let (_, vhost) = amqp.rsplit_once('/').expect("the URL names a virtual host");
        let vhost = vhost.split('?').next().unwrap_or(vhost).to_owned();
        Self {
            api,
            vhost,
            client: crate::tls::http_client(),
        }
    }

    /// Makes a user without any rights.
    pub async fn create_user(&self, name: &str, password: &str) {
        let user = json!({ "password": password, "tags": "" });
        self.put(&format!("users/{name}"), user).await;
    }

    /// Removes a user and its rights.
    pub async fn delete_user(&self, name: &str) {
        self.delete(&format!("users/{name}")).await;
    }

    /// Makes a virtual host.
    pub async fn create_vhost(&self, name: &str) {
        self.put(&format!("vhosts/{name}"), json!({})).await;
    }

    /// Removes a virtual host and all that is in it.
    pub async fn delete_vhost(&self, name: &str) {
        self.delete(&format!("vhosts/{name}")).await;
    }

    /// Gives a user rights on names, as regular expressions.
    pub async fn permit(&self, user: &str, configure: &str, write: &str, read: &str) {
        let rights = json!({ "configure": configure, "write": write, "read": read });
        let path = format!("permissions/{}/{user}", self.vhost);
        self.put(&path, rights).await;
    }

    /// Limits a user to routing keys of one topic exchange.
    pub async fn permit_topics(&self, user: &str, exchange: &str, write: &str, read: &str) {
        let rights = json!({ "exchange": exchange, "write": write, "read": read });
        let path = format!("topic-permissions/{}/{user}", self.vhost);
        self.put(&path, rights).await;
    }

    /// Declares a queue with these arguments.
    pub async fn create_queue(&self, name: &str, arguments: Value) {
        let queue = json!({ "durable": true, "arguments": arguments });
        self.put(&format!("queues/{}/{name}", self.vhost), queue)
            .await;
    }

    /// Removes a queue, if it is there.
    pub async fn delete_queue(&self, name: &str) {
        self.delete(&format!("queues/{}/{name}", self.vhost)).await;
    }

    /// Drops every message of a queue.
    pub async fn purge_queue(&self, name: &str) {
        let path = format!("queues/{}/{name}/contents", self.vhost);
        self.delete(&path).await;
    }

    /// How many messages a queue holds, as of a few seconds ago.
    pub async fn held_by(&self, queue: &str) -> u64 {
        let path = format!("queues/{}/{queue}", self.vhost);
        let answer = self.ask(Method::GET, &path, Value::Null).await;
        let found: Value = answer.json().await.expect("a queue is JSON");
        found["messages"].as_u64().unwrap_or_default()
    }

    /// Closes the connections whose name contains `name`, by force; returns how many.
    pub async fn close_connections(&self, name: &str) -> usize {
        let connections = self.list("connections").await;
        let ours = connections.iter().filter(|connection| {
            let given = connection["client_properties"]["connection_name"].as_str();
            given.is_some_and(|given| given.contains(name))
        });
        let mut closed = 0;
        for connection in ours.filter_map(|connection| connection["name"].as_str()) {
            self.delete(&format!("connections/{}", encode(connection)))
                .await;
            closed += 1;
        }
        closed
    }

    /// The names of all `queues`, or `exchanges`, of the virtual host.
    pub async fn names(&self, what: &str) -> Vec<String> {
        let listed = self.list(&format!("{what}/{}", self.vhost)).await;
        let names = listed.iter().filter_map(|one| one["name"].as_str());
        names.map(str::to_owned).collect()
    }

    async fn list(&self, path: &str) -> Vec<Value> {
        let answer = self.ask(Method::GET, path, Value::Null).await;
        let answer = answer.error_for_status().expect("the management API lists");
        answer.json().await.expect("a list is JSON")
    }

    async fn put(&self, path: &str, body: Value) {
        let answer = self.ask(Method::PUT, path, body).await;
        answer
            .error_for_status()
            .expect("the management API lets us");
    }

    /// What is gone already is fine.
    async fn delete(&self, path: &str) {
        let answer = self.ask(Method::DELETE, path, Value::Null).await;
        let status = answer.status();
        let done = status.is_success() || status == StatusCode::NOT_FOUND;
        assert!(done, "DELETE {path}: {status}");
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> reqwest::Response {
        let request = self
            .client
            .request(method, format!("{}/api/{path}", self.api));
        let sent = request.json(&body).send().await;
        sent.expect("the management API answers")
    }
}

fn encode(text: &str) -> String {
    let encoded = |byte: u8| {
        if byte.is_ascii_alphanumeric() {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(encoded).collect()
}

/// A virtual host of a test's own at the tests' RabbitMQ, with users. Dropped, it is removed, whoever still uses it.
#[derive(Debug)]
pub struct TestBroker {
    /// The management API.
    pub management: Management,
    prefix: String,
    amqp: String,
    users: std::sync::Mutex<Vec<String>>,
}

impl TestBroker {
    /// Makes a virtual host.
    ///
    /// # Panics
    /// When there is no RabbitMQ, or it does not let us.
    pub async fn create() -> Self {
        let (amqp, api) = (
            services::url(services::AMQP),
            services::url(services::RABBITMQ_API),
        );
        Self::on(amqp, api).await
    }

    /// Makes a virtual host on the node of these URLs.
    ///
    /// # Panics
    /// When it does not let us.
    pub async fn on(amqp: String, api: String) -> Self {
        let name = format!("test-{:016x}", rand::random::<u64>());
        let management = Management {
            vhost: name.clone(),
            ..Management::of(&amqp, api)
        };
        management.create_vhost(&name).await;
        let administrator = administrator(&amqp);
        management.permit(&administrator, ".*", ".*", ".*").await;
        Self {
            management,
            prefix: format!("{name}."),
            amqp,
            users: std::sync::Mutex::default(),
        }
    }

    /// A prefix for exchanges, queues and connections, as nobody else has it.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The AMQP URL, as an administrator.
    pub fn url(&self) -> String {
        let (server, _) = self
            .amqp
            .rsplit_once('/')
            .expect("the URL names a virtual host");
        format!("{server}/{}", self.management.vhost)
    }

    /// Makes a user without rights; returns its name and its URL.
    ///
    /// # Panics
    /// When RabbitMQ does not make it.
    pub async fn user(&self) -> (String, String) {
        let name = format!("{}user-{:08x}", self.prefix, rand::random::<u32>());
        self.management.create_user(&name, "password").await;
        self.users
            .lock()
            .expect("no holder panics")
            .push(name.clone());
        let url = self.url_as(&name, "password");
        (name, url)
    }

    /// The AMQP URL, as someone else.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        let url = self.url();
        let (_, place) = url.split_once('@').expect("the URL names a user");
        format!("amqp://{user}:{password}@{place}")
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        let management = self.management.clone();
        let users = std::mem::take(&mut *self.users.lock().expect("no holder panics"));
        // A test's runtime may be ending; this one is its own.
        let removing = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let remove = async {
                let management = Management {
                    client: Client::new(),
                    ..management
                };
                for user in users {
                    management.delete_user(&user).await;
                }
                management.delete_vhost(&management.vhost).await;
            };
            let _ = runtime.map(|runtime| runtime.block_on(remove));
        });
        let _ = removing.join();
    }
}

/// Sends every message of an exchange a second time, later and in another order, with a field in its
/// data that nobody knows. Dropped, it stops.
#[derive(Debug)]
pub struct Echo {
    task: tokio::task::JoinHandle<()>,
    sent: Arc<AtomicUsize>,
}

/// Marks what was sent again, so that it is not sent a third time.
const ECHO: &str = "echo";

impl Echo {
    /// Echoes an exchange, as a user who may do all of it.
    ///
    /// # Panics
    /// When the broker does not let us.
    pub async fn of(url: &str, exchange: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default()).await;
        let connection = connection.expect("the tests' RabbitMQ answers");
        let channel = connection.create_channel().await.expect("a channel");
        let own = QueueDeclareOptions {
            exclusive: true,
            ..Default::default()
        };
        let none = FieldTable::default;
        let queue = channel.queue_declare("".into(), own, none()).await;
        let queue = queue.expect("an exclusive queue").name().clone();
        let (bind, consume) = (QueueBindOptions::default(), BasicConsumeOptions::default());
        let bound = channel.queue_bind(queue.clone(), exchange.into(), "#".into(), bind, none());
        bound.await.expect("a binding");
        let no_ack = BasicConsumeOptions {
            no_ack: true,
            ..consume
        };
        let consumer = channel
            .basic_consume(queue, "".into(), no_ack, none())
            .await;
        let mut consumer = consumer.expect("a consumer");
        let sent = Arc::new(AtomicUsize::new(0));
        let (exchange, count) = (exchange.to_owned(), sent.clone());
        let task = tokio::spawn(async move {
            let _connection = connection;
            while let Some(Ok(delivery)) = consumer.next().await {
                let echoed = delivery.properties.app_id().as_ref();
                if echoed.is_some_and(|app| app.as_str() == ECHO) {
                    continue;
                }
                let (channel, exchange, count) = (channel.clone(), exchange.clone(), count.clone());
                tokio::spawn(async move {
                    let delay = rand::random_range(0..150);
                    tokio::time::sleep(Duration::from_millis(delay)).await;
                    let Ok(mut event) = serde_json::from_slice::<Value>(&delivery.data) else {
                        return;
                    };
                    event["data"]["colour"] = json!("blue");
                    event["mood"] = json!({ "good": true });
                    let body = event.to_string();
                    let properties = delivery.properties.clone().with_app_id(ECHO.into());
                    let options = BasicPublishOptions::default();
                    let key = delivery.routing_key.clone();
                    let publishing = channel.basic_publish(
                        exchange.into(),
                        key,
                        options,
                        body.as_bytes(),
                        properties,
                    );
                    if publishing.await.is_ok() {
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        Self { task, sent }
    }

    /// How many messages were sent again.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The user of the AMQP URL.
fn administrator(url: &str) -> String {
    let user = url
        .split_once("://")
        .and_then(|(_, rest)| rest.split_once(':'));
    user.expect("the URL names a user").0.to_owned()
}

/// A message of someone outside.
#[derive(Debug, Clone, Copy)]
pub struct Outside<'a> {
    /// The exchange.
    pub exchange: &'a str,
    /// The routing key.
    pub key: &'a str,
    /// Whom it says it is from.
    pub user_id: Option<&'a str>,
    /// Its body.
    pub body: &'a [u8],
}

/// Publishes a message on a connection of its own and waits for the confirm.
///
/// # Errors
/// What the broker said against it.
pub async fn publish(url: &str, message: Outside<'_>) -> lapin::Result<Confirmation> {
    let mut confirmations = publish_all(url, &[message]).await?;
    Ok(confirmations.remove(0))
}

/// Publishes many through one channel.
///
/// # Errors
/// What the broker said against it.
pub async fn publish_all(url: &str, messages: &[Outside<'_>]) -> lapin::Result<Vec<Confirmation>> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let mut published = Vec::new();
    for message in messages {
        let mut properties = BasicProperties::default();
        if let Some(user) = message.user_id {
            properties = properties.with_user_id(user.into());
        }
        let (exchange, key) = (message.exchange.into(), message.key.into());
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish(exchange, key, options, message.body, properties);
        published.push(sent.await?);
    }
    let mut confirmations = Vec::new();
    for one in published {
        confirmations.push(one.await?);
    }
    connection.close(200, "OK".into()).await?;
    Ok(confirmations)
}
