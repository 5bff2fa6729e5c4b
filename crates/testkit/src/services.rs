//! Where the services of tests are. The program `rekey-testkit` finds or starts them and sets these variables.

/// The URL of a PostgreSQL server, as a superuser: `postgres://user:password@host:port/postgres`.
pub const POSTGRES: &str = "REKEY_TEST_POSTGRES_URL";
/// The URL of a RabbitMQ node, as an administrator: `amqp://user:password@host:port/%2f`.
pub const AMQP: &str = "REKEY_TEST_AMQP_URL";
/// The URL of the same node's management API: `http://user:password@host:port`.
pub const RABBITMQ_API: &str = "REKEY_TEST_RABBITMQ_API_URL";
/// The URL of an emulator of AWS KMS and S3.
pub const KMS: &str = "REKEY_TEST_KMS_URL";
/// The URL of an emulator of Azure's blobs, with its account: `http://host:port/devstoreaccount1`.
pub const AZURE: &str = "REKEY_TEST_AZURE_URL";

/// What a variable says.
///
/// # Panics
/// Without it there is nothing to test against; says how to run the tests.
pub fn url(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run the tests as README.md says, or start the service and set it")
    })
}
