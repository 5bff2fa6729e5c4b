//! Looking at a PostgreSQL source: everything in read-only transactions.

use async_trait::async_trait;
use sqlx::{Connection, PgConnection};

use super::{
    PostgresSource, candidates, catalogue::Table, faults::Located, identity, measure, parts,
    sample, texts,
};
use crate::{
    CandidateTable, CensusColumn, Inspect, Measure, Sample, SourceError, TableMeasure, TextColumn,
    TextTable, Texts, place::Place,
};

const BEGIN: &str = "BEGIN READ ONLY";

#[async_trait]
impl Inspect for PostgresSource {
    /// Counts by many statements, each with its own snapshot, so that no transaction stays open for as long as a large
    /// table takes.
    async fn measure(
        &self,
        relation: &str,
        columns: &[CensusColumn],
        how: Measure,
    ) -> Result<TableMeasure, SourceError> {
        let (mut connection, place) = self.begin(relation).await?;
        let table = Table::find(&mut connection, place).await?;
        parts::refuse_row_security(&mut connection, &table).await?;
        measure::table(&mut connection, &table, columns, how).await
    }

    async fn candidates(&self) -> Result<Vec<CandidateTable>, SourceError> {
        let (mut connection, _) = self.begin("-").await?;
        let place = Place::database(self.connections.database());
        candidates::find(&mut connection, &place).await
    }

    async fn database_id(&self) -> Result<Option<String>, SourceError> {
        let (mut connection, _) = self.begin("-").await?;
        let place = Place::database(self.connections.database());
        identity::of_database(&mut connection, &place).await
    }

    async fn column_of(&self, identity: &str) -> Result<Option<(String, String)>, SourceError> {
        let (mut connection, place) = self.begin("-").await?;
        identity::column_of(&mut connection, identity, &place).await
    }

    async fn instance(&self) -> Result<String, SourceError> {
        let (mut connection, _) = self.begin("-").await?;
        let place = Place::database(self.connections.database());
        identity::of_instance(&mut connection, &place).await
    }

    async fn name_of(&self, oid: i64) -> Result<Option<String>, SourceError> {
        let (mut connection, _) = self.begin("-").await?;
        let place = Place::database(self.connections.database());
        identity::name_of(&mut connection, oid, &place).await
    }

    async fn part_names(&self, relation: &str) -> Result<Vec<String>, SourceError> {
        let (mut connection, place) = self.begin(relation).await?;
        let table = Table::find(&mut connection, place).await?;
        let heaps = parts::find(&mut connection, &table).await?;
        Ok(heaps.into_iter().map(parts::Heap::into_name).collect())
    }

    async fn sample(
        &self,
        relation: &str,
        columns: &[CensusColumn],
        rows: u32,
    ) -> Result<Sample, SourceError> {
        let (mut session, place) = self.begin(relation).await?;
        let mut transaction = session.begin_with(BEGIN).await.at(&place)?;
        let connection: &mut PgConnection = &mut transaction;
        let table = Table::find_to_look_at(connection, place).await?;
        parts::refuse_row_security(connection, &table).await?;
        sample::of(connection, &table, columns, rows).await
    }

    async fn text_tables(&self) -> Result<Vec<TextTable>, SourceError> {
        let (mut connection, _) = self.begin("-").await?;
        let place = Place::database(self.connections.database());
        texts::find(&mut connection, &place).await
    }

    async fn sample_texts(
        &self,
        relation: &str,
        columns: &[TextColumn],
        rows: u32,
    ) -> Result<Texts, SourceError> {
        let (mut session, place) = self.begin(relation).await?;
        let mut transaction = session.begin_with(BEGIN).await.at(&place)?;
        let connection: &mut PgConnection = &mut transaction;
        let table = Table::find_to_look_at(connection, place).await?;
        parts::refuse_row_security(connection, &table).await?;
        texts::look(connection, &table, columns, rows).await
    }
}
