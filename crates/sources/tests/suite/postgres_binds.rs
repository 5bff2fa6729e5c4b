//! What a person sees of a row's key, read by its column's type, is what the row's values are bound to.

use rekey_domain::{BindType, BindValue};

use super::{
    fixture::Fixture,
    postgres_fixture::{PostgresFixture, old, read_parts},
};

const COLUMNS: [&str; 10] = ["u", "s", "i", "b", "t", "v", "c", "d", "w", "y"];

#[tokio::test]
async fn a_bind_value_as_the_database_prints_it_is_the_one_that_is_read_from_the_row() {
    let fixture = PostgresFixture::with(
        "CREATE DOMAIN short AS char(7);
        CREATE DOMAIN shorter AS short CHECK (value <> '');
        CREATE TABLE keyed (u uuid, s smallint, i int, b bigint, t text, v varchar(9), c char(3),
            d shorter, w bpchar, y bytea, ssn bytea)",
    )
    .await;
    let insert = format!(
        "INSERT INTO keyed VALUES ('{{A0112233445566778899AABBCCDDEEFF}}', '-02', '042', '+8', ' ü',
         'it''s ', 'ß', 'd', 'w ', 'DEAD', {})",
        old()
    );
    fixture.execute(&insert).await;
    let shape = fixture.source().describe("keyed").await.unwrap();
    let varchar = shape.column("v").unwrap().bind_type;
    assert_eq!(varchar, Some(BindType::Varchar(9)));
    let rows = read_parts(&**fixture.source(), "keyed", &COLUMNS).await;
    for (name, read) in COLUMNS.iter().zip(&rows[0].1.binds) {
        let print = format!("SELECT format('%s', {name}) FROM keyed");
        let printed: String = sqlx::query_scalar(sqlx::AssertSqlSafe(print))
            .fetch_one(&fixture.application)
            .await
            .unwrap();
        let of = shape.column(name).unwrap().bind_type.unwrap();
        let typed = of.fit(&BindValue::Text(printed.clone()));
        assert_eq!(typed.ok().as_ref(), read.as_ref(), "{name}: {printed:?}");
    }
}
