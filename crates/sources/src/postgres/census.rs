//! Counting the values of all protected columns of a table by the key their first bytes name.
//!
//! An update moves a row to another block, and maybe to another partition. Counted by statements that each see another
//! moment, the row could be missed or counted twice. So all statements see one moment; each is short, but their
//! transaction lasts as long as the table is large.

use rekey_domain::{Found, Range};
use sqlx::{
    Connection, PgConnection, Row, ValueRef,
    postgres::{PgRow, types::Oid},
};

use super::{
    catalogue::Table,
    changed,
    connections::{self, Connections},
    damage::{self, Careful, Piece},
    faults::Located,
    fence, identity,
    leftovers::Leftovers,
    locked, own_code,
    parts::{self, Heap},
    ranges,
    rows::text,
    sql,
    together::{Locked, together},
    tuple::TupleId,
};
use crate::{
    CensusColumn, Counted, PassToShow, SourceError,
    census::{Counting, Counts, check_parts},
    place::Place,
};

/// Rows counted by one statement, so that none runs long.
const RANGE_ROWS: u32 = 20_000;
/// A block may hold this many times the usual number of rows. A heap of few blocks is one range, whatever they hold.
const MORE_ROWS: u32 = 40;

/// The values of each column that are not NULL, by what they are.
pub(super) async fn count(
    connections: &Connections,
    place: Place,
    columns: &[CensusColumn],
    pass: Option<&PassToShow>,
) -> Result<Vec<Vec<Counted>>, SourceError> {
    let fence = pass.and_then(|pass| pass.fence.as_deref());
    let trusted = pass.is_none_or(|pass| pass.trusts_code);
    let mut witness = Witness::call(connections, &place, trusted).await?;
    let guard = Guard::take(connections, &place).await?;
    witness.note(&guard.locked, &place).await?;
    if let Some(fence) = fence {
        fence::check_begun(&mut witness.session, fence, &place).await?;
    }
    let mut connection = connections.fresh().await?;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    let mut transaction = connection.begin_with(begin).await.at(&place)?;
    // The first statement takes the snapshot that all others see.
    refuse_standby(&mut transaction, &place).await?;
    if let Some(fence) = fence {
        fence::check(&mut transaction, fence, &place).await?;
    }
    let table = Table::find(&mut transaction, place).await?;
    let heaps = parts::find(&mut transaction, &table).await?;
    guard.hand_over(&mut transaction, &table, &heaps).await?;
    if let Some(pass) = pass {
        identity::check(&mut transaction, &table, columns, &pass.known).await?;
        let parts: Vec<_> = heaps.iter().map(Heap::id_and_whether_it_has_rows).collect();
        check_parts(&table.place.relation, &parts, pass)?;
    }
    let read: Vec<Oid> = heaps.iter().map(Heap::oid).collect();
    let counting = Counting::new(pass);
    let most = witness.most_together();
    let counted = count_heaps(&mut transaction, &table, heaps, columns, (counting, most)).await?;
    // While our locks keep what there is.
    witness.agree(&table, &read).await?;
    locked::all(&mut transaction, &table, &read, trusted).await?;
    transaction.commit().await.at(&table.place)?;
    connections::end(connection).await;
    Ok(counted)
}

/// Locks taken before the snapshot, in a session of their own, as taking them in ours would take its snapshot first.
/// What is dropped, rewritten or altered between a snapshot and a lock looks empty in that snapshot (`ALTER TABLE …
/// TYPE`, a restored partition, a column in another's place).
struct Guard {
    session: PgConnection,
    locked: Vec<Oid>,
}

impl Guard {
    async fn take(connections: &Connections, place: &Place) -> Result<Self, SourceError> {
        let mut session = connections.fresh().await?;
        let begin = sqlx::raw_sql("BEGIN READ ONLY").execute(&mut session).await;
        begin.at(place)?;
        let table = Table::find(&mut session, place.clone()).await?;
        let heaps = parts::find(&mut session, &table).await?;
        parts::lock_all(&mut session, &heaps, &table.place).await?;
        let locked: Vec<Oid> = heaps.iter().map(Heap::oid).collect();
        // Other tables that index code locks are not judged here: that is the witness's part.
        locked::all(&mut session, &table, &locked, true).await?;
        Ok(Self { session, locked })
    }

    /// Ends, once our transaction has locks of its own on the same heaps.
    async fn hand_over(
        mut self,
        connection: &mut PgConnection,
        table: &Table,
        heaps: &[Heap],
    ) -> Result<(), SourceError> {
        if let Some(heap) = heaps.iter().find(|heap| !self.locked.contains(&heap.oid())) {
            return Err(changed::changed(table, heap.id()));
        }
        parts::lock_all(connection, heaps, &table.place).await?;
        // Code in an index, called while a lock is planned, may have set a path.
        connections::steady(connection, &table.place).await?;
        // Its commit succeeds only if the session is still there, and so held its locks until now.
        let commit = sqlx::raw_sql("COMMIT").execute(&mut self.session).await;
        commit.at(&table.place)?;
        connections::end(self.session).await;
        Ok(())
    }
}

/// A session that never touches the table, so that no code of its owner runs there.
struct Witness {
    session: PgConnection,
    trusts_code: bool,
    /// Whether there is such code, which is trusted.
    has_code: bool,
    names: Vec<String>,
}

impl Witness {
    /// Before anybody touches the table.
    async fn call(
        connections: &Connections,
        place: &Place,
        trusts_code: bool,
    ) -> Result<Self, SourceError> {
        let mut session = connections.fresh().await?;
        let table = Table::find(&mut session, place.clone()).await?;
        let heaps = parts::find(&mut session, &table).await?;
        let heaps: Vec<Oid> = heaps.iter().map(Heap::oid).collect();
        own_code::refuse(&mut session, &heaps, trusts_code, place).await?;
        let has_code = trusts_code && !own_code::of(&mut session, &heaps, place).await?.is_empty();
        Ok(Self {
            session,
            trusts_code,
            has_code,
            names: Vec::new(),
        })
    }

    /// How many heaps a statement may take: what runs while one is planned may change how the next is.
    fn most_together(&self) -> usize {
        if self.has_code { 1 } else { parts::TOGETHER }
    }

    /// Once the heaps are locked.
    async fn note(&mut self, heaps: &[Oid], place: &Place) -> Result<(), SourceError> {
        self.names = names_of(&mut self.session, heaps, place).await?;
        Ok(())
    }

    /// Checks that each heap had the same name throughout: each statement looks names up again, and while a locked heap
    /// keeps its name, its schema may be renamed. Also checks that no code of the owner has come. During the lock only
    /// code in statistics can have come and gone, and that only chooses how the heap is read.
    async fn agree(mut self, table: &Table, heaps: &[Oid]) -> Result<(), SourceError> {
        if names_of(&mut self.session, heaps, &table.place).await? != self.names {
            return Err(changed::another(table));
        }
        let trusted = self.trusts_code && self.has_code;
        match own_code::refuse(&mut self.session, heaps, trusted, &table.place).await {
            // It came while we counted, and would be trusted the next time.
            Err(SourceError::RunsCode { .. }) if self.trusts_code => {
                return Err(changed::another(table));
            }
            refused => refused?,
        }
        connections::end(self.session).await;
        Ok(())
    }
}

/// The names of heaps, with something that shows whether their schemas were renamed meanwhile.
async fn names_of(
    session: &mut PgConnection,
    heaps: &[Oid],
    place: &Place,
) -> Result<Vec<String>, SourceError> {
    let sql = "SELECT pg_catalog.format('%s %I.%I %s', c.oid, n.nspname, c.relname, n.xmin) \
        FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
        WHERE c.oid = ANY ($1) ORDER BY c.oid";
    let names = sqlx::query_scalar(sql).bind(heaps).persistent(false);
    names.fetch_all(session).await.at(place)
}

async fn count_heaps(
    connection: &mut PgConnection,
    table: &Table,
    heaps: Vec<Heap>,
    columns: &[CensusColumn],
    (mut counting, most): (Counting<'_>, usize),
) -> Result<Vec<Vec<Counted>>, SourceError> {
    let groups = groups(table, columns)?;
    let mut locked = Vec::new();
    let mut careful = Careful::begin(connection, &table.place).await?;
    for heap in heaps {
        let ranges = ranges_of(&mut careful, table, &heap).await?;
        let heap = Locked { heap, ranges };
        locked.push(heap);
    }
    for some in together(&locked, most) {
        let counts = &mut counting.counts;
        count_some(&mut careful, table, some, &groups, columns, counts).await?;
    }
    if let Some(pass) = counting.to_look_for() {
        let leftovers = Leftovers::new(table, columns, &pass.settled)?;
        let taken = (&*locked, most);
        leftovers.look(&mut careful, taken, &mut counting).await?;
    }
    if counting.seek() {
        let all = Leftovers::new(table, columns, &[])?;
        let taken = (&*locked, most);
        all.look(&mut careful, taken, &mut counting).await?;
    }
    Ok(counting.into_columns(columns.len()))
}

pub(super) async fn refuse_standby(
    connection: &mut PgConnection,
    place: &Place,
) -> Result<(), SourceError> {
    let standby = sqlx::query_scalar("SELECT pg_catalog.pg_is_in_recovery()");
    if !standby.fetch_one(connection).await.at(place)? {
        return Ok(());
    }
    Err(SourceError::Standby {
        database: place.database.to_string(),
    })
}

/// What each column is grouped by.
fn groups(table: &Table, columns: &[CensusColumn]) -> Result<Vec<String>, SourceError> {
    let group = |column: &CensusColumn| {
        let value = format!("t.{}", table.protected(&column.name, column.encoding)?);
        Ok(sql::group(&value, column.encoding, column.by))
    };
    columns.iter().map(group).collect()
}

/// All heaps in one statement; one by one where that fails.
async fn count_some(
    careful: &mut Careful<'_>,
    table: &Table,
    heaps: &[Locked],
    groups: &[String],
    columns: &[CensusColumn],
    counts: &mut Counts,
) -> Result<(), SourceError> {
    let which = rows_of(heaps);
    if heaps.len() > 1 && which.is_empty() {
        return Ok(());
    }
    if heaps.len() > 1
        && let Some(rows) = careful.fetch_or_go_back(select(groups, &which)).await?
    {
        for row in &rows {
            add(row, columns, counts).at(&table.place)?;
        }
        return Ok(());
    }
    for Locked { heap, ranges } in heaps {
        let heap = heap.to_read(&table.place);
        for range in ranges {
            count_range(careful, &heap, *range, groups, columns, counts).await?;
        }
    }
    Ok(())
}

/// Each range of heaps: the heap, and its condition.
fn rows_of(heaps: &[Locked]) -> Vec<(String, String)> {
    let ranges = heaps
        .iter()
        .flat_map(|one| one.ranges.iter().map(|range| (one.heap.only(), range)));
    ranges
        .map(|(only, range)| (only, sql::of_blocks(*range)))
        .collect()
}

/// Its blocks, so many by one statement.
async fn ranges_of(
    careful: &mut Careful<'_>,
    table: &Table,
    heap: &Heap,
) -> Result<Vec<Range>, SourceError> {
    let mut part = heap.part(ranges::USUAL_ROWS);
    if ranges::next(&part, None, RANGE_ROWS / MORE_ROWS)
        .is_some_and(|all| Some(all.last) < part.end)
    {
        let rows = heap
            .rows_per_block(careful.connection(), &table.place)
            .await;
        part = heap.part(parts::or_usual(careful.recovered(rows).await)?);
    }
    let next = |range: &Range| ranges::next(&part, Some(range.last), RANGE_ROWS);
    Ok(std::iter::successors(ranges::next(&part, None, RANGE_ROWS), next).collect())
}

/// Counts the rows of a range; those that cannot be read at once value by value.
pub(super) async fn count_range(
    careful: &mut Careful<'_>,
    heap: &damage::Heap,
    range: Range,
    groups: &[String],
    columns: &[CensusColumn],
    counts: &mut Counts,
) -> Result<(), SourceError> {
    let select = |which: &str| select(groups, &[(heap.only.clone(), which.to_owned())]);
    for piece in careful.pieces(heap, range, select).await? {
        match piece {
            Piece::Rows(rows) => {
                for row in &rows {
                    add(row, columns, counts).at(&heap.place)?;
                }
            }
            Piece::Alone(row) => {
                count_values(careful, heap, row, groups, columns, counts).await?;
            }
        }
    }
    Ok(())
}

async fn count_values(
    careful: &mut Careful<'_>,
    heap: &damage::Heap,
    row: TupleId,
    groups: &[String],
    columns: &[CensusColumn],
    counts: &mut Counts,
) -> Result<(), SourceError> {
    let which = [(heap.only.clone(), sql::of_rows(&[row]))];
    for (at, column) in columns.iter().enumerate() {
        let sql = select(&groups[at..=at], &which);
        let mut value = Counts::new();
        match careful.fetch(sql, heap).await {
            Err(SourceError::Damaged { .. }) => {
                value.insert((0, Found::Unreadable), 1);
            }
            rows => {
                for counted in &rows? {
                    add(counted, std::slice::from_ref(column), &mut value).at(&heap.place)?;
                }
            }
        }
        for ((_, found), values) in value {
            *counts.entry((at, found)).or_default() += values;
        }
    }
    Ok(())
}

/// One scan counts all columns, each as a grouping set. `which` are heaps with conditions; no row meets two of them.
pub(super) fn select(groups: &[String], which: &[(String, String)]) -> String {
    let named = groups.iter().enumerate();
    let named: Vec<_> = named
        .map(|(at, group)| format!("{group} AS g{at}"))
        .collect();
    let column: Vec<_> = (0..groups.len())
        .map(|at| format!("WHEN GROUPING(g{at}) OPERATOR(pg_catalog.=) 0 THEN {at}"))
        .collect();
    let value: Vec<_> = (0..groups.len())
        .map(|at| format!("WHEN GROUPING(g{at}) OPERATOR(pg_catalog.=) 0 THEN g{at}"))
        .collect();
    let sets: Vec<_> = (0..groups.len()).map(|at| format!("(g{at})")).collect();
    let (named, column, value, sets) = (
        named.join(", "),
        column.join(" "),
        value.join(" "),
        sets.join(", "),
    );
    let rows: Vec<_> = which
        .iter()
        // `OFFSET 0` keeps the inner statements apart, so that no index on the grouped expressions is used.
        .map(|(only, which)| format!("({} OFFSET 0)", sql::rows_where(&named, only, which)))
        .collect();
    let rows = rows.join(" UNION ALL ");
    format!(
        "SELECT CASE {column} END, CASE {value} END, pg_catalog.count(*) FROM ({rows}) AS v \
         GROUP BY GROUPING SETS ({sets})"
    )
}

pub(super) fn add(
    row: &PgRow,
    _columns: &[CensusColumn],
    counts: &mut Counts,
) -> Result<(), sqlx::Error> {
    let column = row.try_get::<i32, _>(0)?.unsigned_abs() as usize;
    // NULL: no value.
    if row.try_get_raw(1)?.is_null() {
        return Ok(());
    }
    // What is not UTF-8 is no base64.
    let group = text(row, 1)?.unwrap_or_default();
    let found = sql::found(group);
    let values: i64 = row.try_get(2)?;
    *counts.entry((column, found)).or_default() += values.unsigned_abs();
    Ok(())
}
