//! Looking at a SQLite source: statements that only read.

use async_trait::async_trait;

use super::{SqliteSource, candidates, catalogue::Table, measure, sample, texts};
use crate::{
    CandidateTable, CensusColumn, Inspect, Measure, Sample, SourceError, TableMeasure, TextColumn,
    TextTable, Texts, place::Place,
};

#[async_trait]
impl Inspect for SqliteSource {
    async fn measure(
        &self,
        relation: &str,
        columns: &[CensusColumn],
        how: Measure,
    ) -> Result<TableMeasure, SourceError> {
        let (mut connection, table) = self.table(relation).await?;
        measure::table(&mut connection, &table, columns, how).await
    }

    async fn candidates(&self) -> Result<Vec<CandidateTable>, SourceError> {
        let mut connection = self.connections.acquire().await?;
        candidates::find(&mut connection, self.connections.database()).await
    }

    async fn database_id(&self) -> Result<Option<String>, SourceError> {
        let file = self.connections.real_path().await?;
        Ok(Some(file.display().to_string()))
    }

    /// It numbers neither tables nor columns.
    async fn column_of(&self, _identity: &str) -> Result<Option<(String, String)>, SourceError> {
        Ok(None)
    }

    /// By the file itself and not by its path, as a directory may be mounted twice.
    async fn instance(&self) -> Result<String, SourceError> {
        self.connections.instance().await
    }

    async fn name_of(&self, _oid: i64) -> Result<Option<String>, SourceError> {
        Ok(None)
    }

    async fn part_names(&self, relation: &str) -> Result<Vec<String>, SourceError> {
        let (_, table) = self.table(relation).await?;
        Ok(vec![table.name])
    }

    async fn sample(
        &self,
        relation: &str,
        columns: &[CensusColumn],
        rows: u32,
    ) -> Result<Sample, SourceError> {
        let mut connection = self.connections.acquire().await?;
        let place = Place::new(self.connections.database(), relation);
        let table = Table::find_to_look_at(&mut connection, place).await?;
        sample::of(&mut connection, &table, columns, rows).await
    }

    async fn text_tables(&self) -> Result<Vec<TextTable>, SourceError> {
        let mut connection = self.connections.acquire().await?;
        texts::find(&mut connection, self.connections.database()).await
    }

    async fn sample_texts(
        &self,
        relation: &str,
        columns: &[TextColumn],
        rows: u32,
    ) -> Result<Texts, SourceError> {
        let mut connection = self.connections.acquire().await?;
        let place = Place::new(self.connections.database(), relation);
        let table = Table::find_to_look_at(&mut connection, place).await?;
        texts::look(&mut connection, &table, columns, rows).await
    }
}
