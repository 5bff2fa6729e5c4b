//! The table: a primary key, and values of 300 bytes under `phi`.

use clap::ValueEnum;
use rekey_domain::BindValue;
use rekey_operations::Services;
use sqlx::PgPool;
use uuid::Uuid;

/// What a row's primary key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeyType {
    /// 1, 2, 3 …
    Bigint,
    /// Random UUIDs, in no order.
    Uuid,
}

impl KeyType {
    /// The column's SQL type.
    pub fn sql(self) -> &'static str {
        match self {
            Self::Bigint => "bigint",
            Self::Uuid => "uuid",
        }
    }
}

/// The stored size of a value: a ciphertext of 267 bytes of plaintext.
pub const VALUE: usize = 300;
/// The column, as a client is asked for it.
pub const COLUMN: &str = "bench.bench.v";
const PLAINTEXT: usize = VALUE - 33;
const CHUNK: usize = 5_000;

/// What the value of the row of this number says.
pub fn plaintext(number: i64) -> anyhow::Result<Vec<u8>> {
    Ok(vec![u8::try_from(number % 251)?; PLAINTEXT])
}

/// Fills `bench` with values encrypted under the primary key of `phi`.
pub async fn fill(
    pool: &PgPool,
    services: &Services,
    rows: i64,
    key: KeyType,
) -> anyhow::Result<()> {
    let mut left = usize::try_from(rows)?;
    let mut next = 1_i64;
    while left > 0 {
        let count = left.min(CHUNK);
        let (mut bigints, mut uuids, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..count {
            let uuid = Uuid::from_u128(rand::random());
            let bind = match key {
                KeyType::Bigint => BindValue::Integer(next),
                KeyType::Uuid => BindValue::Uuid(*uuid.as_bytes()),
            };
            bigints.push(next);
            uuids.push(uuid);
            let client = &services.client;
            values.push(client.encrypt(COLUMN, &[bind], &plaintext(next)?).await?);
            next += 1;
        }
        match key {
            KeyType::Bigint => {
                let insert = "INSERT INTO bench SELECT * FROM unnest($1::bigint[], $2::bytea[])";
                sqlx::query(insert)
                    .bind(bigints)
                    .bind(values)
                    .execute(pool)
                    .await?;
            }
            KeyType::Uuid => {
                let insert = "INSERT INTO bench SELECT * FROM unnest($1::uuid[], $2::bytea[])";
                sqlx::query(insert)
                    .bind(uuids)
                    .bind(values)
                    .execute(pool)
                    .await?;
            }
        }
        left -= count;
    }
    Ok(())
}
