//! What Rekey is measured against: one statement that writes the same bytes, and one that also ciphers in SQL.

use std::time::Instant;

use sqlx::{AssertSqlSafe, PgPool};

use crate::rows::{KeyType, VALUE};

/// (a): every value is replaced by one of its size. The limit of any tool that writes each row once.
pub async fn bare(pool: &PgPool, rows: i64, key: KeyType) -> anyhow::Result<f64> {
    let value = format!("decode(repeat('ab', {VALUE}), 'hex')");
    table(pool, rows, key, &value).await?;
    timed(
        pool,
        r"UPDATE baseline SET v = '\x02'::bytea || substr(v, 2)",
    )
    .await
}

/// (b): `encrypt_iv(decrypt_iv(…))` of pgcrypto, AES-256-CBC under an IV of each row.
pub async fn pgcrypto(pool: &PgPool, rows: i64, key: KeyType) -> anyhow::Result<f64> {
    sqlx::query("CREATE EXTENSION IF NOT EXISTS pgcrypto")
        .execute(pool)
        .await?;
    let plain = VALUE - 16 - 12;
    let sealed = format!(
        "iv || encrypt_iv(decode(repeat('ab', {plain}), 'hex'), decode(repeat('11', 32), 'hex'), iv, 'aes')"
    );
    table(pool, rows, key, &sealed).await?;
    timed(
        pool,
        "UPDATE baseline b SET v = n.iv || encrypt_iv(
             decrypt_iv(substr(b.v, 17), decode(repeat('11', 32), 'hex'), substr(b.v, 1, 16), 'aes'),
             decode(repeat('22', 32), 'hex'), n.iv, 'aes')
         FROM (SELECT id, gen_random_bytes(16) AS iv FROM baseline) n WHERE n.id = b.id",
    )
    .await
}

async fn table(pool: &PgPool, rows: i64, key: KeyType, value: &str) -> anyhow::Result<()> {
    let id = match key {
        KeyType::Bigint => "n",
        KeyType::Uuid => "gen_random_uuid()",
    };
    let sql = format!(
        "DROP TABLE IF EXISTS baseline;
         CREATE TABLE baseline (id {} PRIMARY KEY, v bytea);
         INSERT INTO baseline SELECT {id}, {value}
             FROM (SELECT n, decode(md5(n::text), 'hex') AS iv FROM generate_series(1, {rows}) n) s",
        key.sql()
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await?;
    for settle in ["VACUUM ANALYZE baseline", "CHECKPOINT"] {
        sqlx::query(settle).execute(pool).await?;
    }
    Ok(())
}

async fn timed(pool: &PgPool, update: &'static str) -> anyhow::Result<f64> {
    let started = Instant::now();
    sqlx::query(update).execute(pool).await?;
    let seconds = started.elapsed().as_secs_f64();
    sqlx::query("DROP TABLE baseline").execute(pool).await?;
    Ok(seconds)
}
