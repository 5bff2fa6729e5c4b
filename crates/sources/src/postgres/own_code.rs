//! Code of the table's owner, besides triggers and rules, that runs in every session that plans, reads or updates the
//! table.
//!
//! Planning any query of the table calls functions of its indexes and statistics; any update calls those of CHECKs,
//! domains and generated columns. They run with our rights, in our session, and can change what we see next.

use sqlx::{AssertSqlSafe, PgConnection, postgres::types::Oid};

use super::faults::Located;
use crate::{SourceError, place::Place};

/// What calls which code, for the array of heaps `$1`. It follows functions, the operators, types and operator classes
/// that lead to more functions, and CHECKs of domains. `pg_depend` does not list what came with PostgreSQL.
///
/// PostgreSQL's own functions look up casts when they are called, for any type they are given, such as the row's own or
/// an array's; no dependency shows that. So if one of those functions is called, every cast made by a user counts.
///
/// PostgreSQL does not note the return type of `JSON_VALUE` and `JSON_QUERY` either: it is read from the expression.
///
/// Trusted is only what an administrator must have put there: functions in C, except those that run SQL given as text,
/// and operator classes of extensions that belong to a superuser, as anyone may add to an extension of his own. SQL
/// functions of an extension look names up by the path that the database's owner sets, so they are not trusted. A
/// user's operator class counts as code. So does a PostgreSQL function that runs SQL given as text, or runs code of a
/// type whose number it is given. Finding those means searching all of PostgreSQL's functions, so it is done only where
/// an expression calls any: every batch runs this query.
const CALLED: &str = "\
    WITH RECURSIVE called (classid, objid, what) AS ( \
        SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, i.indexrelid, \
            'index ' || pg_catalog.quote_ident(c.relname::pg_catalog.text) \
        FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = ANY ($1) \
        UNION SELECT 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass, s.oid, \
            'statistics ' || pg_catalog.quote_ident(s.stxname::pg_catalog.text) \
        FROM pg_catalog.pg_statistic_ext s WHERE s.stxrelid = ANY ($1) \
        UNION SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, k.oid, \
            'constraint ' || pg_catalog.quote_ident(k.conname::pg_catalog.text) \
        FROM pg_catalog.pg_constraint k WHERE k.conrelid = ANY ($1) AND k.contype = 'c' \
        UNION SELECT 'pg_catalog.pg_attrdef'::pg_catalog.regclass, d.oid, \
            'column ' || pg_catalog.quote_ident(a.attname::pg_catalog.text) \
        FROM pg_catalog.pg_attrdef d JOIN pg_catalog.pg_attribute a \
            ON a.attrelid = d.adrelid AND a.attnum = d.adnum AND a.attgenerated <> '' WHERE d.adrelid = ANY ($1) \
        UNION SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, a.atttypid, \
            'column ' || pg_catalog.quote_ident(a.attname::pg_catalog.text) \
        FROM pg_catalog.pg_attribute a WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped \
        UNION SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, k.partrelid, \
            'the partition key of ' || k.partrelid::pg_catalog.regclass::pg_catalog.text \
        FROM pg_catalog.unnest($1) AS h (oid) CROSS JOIN LATERAL \
            pg_catalog.pg_partition_ancestors(h.oid::pg_catalog.regclass) AS p (oid) \
            JOIN pg_catalog.pg_partitioned_table k ON k.partrelid = p.oid \
        UNION SELECT n.classid, n.objid, c.what FROM called c CROSS JOIN LATERAL ( \
            SELECT d.refclassid, d.refobjid FROM pg_catalog.pg_depend d \
            WHERE d.classid = c.classid AND d.objid = c.objid AND d.deptype <> 'e' AND d.refclassid IN ( \
                'pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_operator'::pg_catalog.regclass, \
                'pg_catalog.pg_type'::pg_catalog.regclass, 'pg_catalog.pg_opclass'::pg_catalog.regclass) \
            UNION ALL SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, k.oid FROM pg_catalog.pg_constraint k \
            WHERE c.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND k.contypid = c.objid \
            UNION ALL SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, t.typbasetype FROM pg_catalog.pg_type t \
            WHERE c.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND t.oid = c.objid AND t.typtype = 'd' \
            UNION ALL SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, a.atttypid FROM pg_catalog.pg_type t \
            JOIN pg_catalog.pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped \
            WHERE c.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND t.oid = c.objid AND t.typtype = 'c' \
            UNION ALL SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, m.found[1]::pg_catalog.oid FROM ( \
                SELECT k.conbin::pg_catalog.text FROM pg_catalog.pg_constraint k \
                WHERE c.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND k.oid = c.objid \
                UNION ALL SELECT pg_catalog.concat(i.indexprs::pg_catalog.text, i.indpred::pg_catalog.text) \
                FROM pg_catalog.pg_index i \
                WHERE c.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND i.indexrelid = c.objid \
                UNION ALL SELECT d.adbin::pg_catalog.text FROM pg_catalog.pg_attrdef d \
                WHERE c.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.oid = c.objid \
                UNION ALL SELECT s.stxexprs::pg_catalog.text FROM pg_catalog.pg_statistic_ext s \
                WHERE c.classid = 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass AND s.oid = c.objid \
                UNION ALL SELECT t.partexprs::pg_catalog.text FROM pg_catalog.pg_partitioned_table t \
                WHERE c.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND t.partrelid = c.objid \
            ) AS e (tree) CROSS JOIN LATERAL pg_catalog.regexp_matches(e.tree, ':typid ([0-9]+)', 'g') AS m (found) \
            WHERE e.tree LIKE '%{JSONEXPR %' \
        ) AS n (classid, objid)), \
    said (what, said) AS MATERIALIZED ( \
        SELECT c.what, k.conbin::pg_catalog.text FROM called c JOIN pg_catalog.pg_constraint k \
            ON c.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND k.oid = c.objid \
        UNION ALL SELECT c.what, coalesce(i.indexprs::pg_catalog.text, '') || coalesce(i.indpred::pg_catalog.text, '') \
        FROM called c JOIN pg_catalog.pg_index i \
            ON c.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND i.indexrelid = c.objid \
        UNION ALL SELECT c.what, d.adbin::pg_catalog.text FROM called c JOIN pg_catalog.pg_attrdef d \
            ON c.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.oid = c.objid \
        UNION ALL SELECT c.what, s.stxexprs::pg_catalog.text FROM called c JOIN pg_catalog.pg_statistic_ext s \
            ON c.classid = 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass AND s.oid = c.objid \
        UNION ALL SELECT c.what, t.partexprs::pg_catalog.text FROM called c JOIN pg_catalog.pg_partitioned_table t \
            ON c.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND t.partrelid = c.objid), \
    runs AS MATERIALIZED (SELECT 'JSONCONSTRUCTOREXPR' AS as_said, true AS casts \
        UNION ALL SELECT w.word || f.oid || ' ', n.casts FROM (VALUES \
            ('^((query|table|cursor|schema|database)_to_xml|ts_stat|ts_rewrite|pg_input_|(record|domain|array|(any)?(multi)?range)_(in|recv)$)', false), \
            ('^((textanycat|anytextcat|quote_literal|quote_nullable)$|(to|row_to|array_to)_jsonb?$|jsonb?_build_(array|object)$)', true) \
        ) AS n (names, casts) JOIN pg_catalog.pg_proc f ON f.proname ~ n.names \
            AND f.pronamespace = 'pg_catalog'::pg_catalog.regnamespace \
        CROSS JOIN pg_catalog.unnest(ARRAY[':funcid ', ':opfuncid ']) AS w (word) \
        WHERE EXISTS (SELECT FROM said s WHERE s.said LIKE '%funcid %')) \
    SELECT DISTINCT c.what || ' calls ' || p.oid::pg_catalog.regprocedure::pg_catalog.text \
    FROM called c JOIN pg_catalog.pg_proc p ON p.oid = c.objid JOIN pg_catalog.pg_language l ON l.oid = p.prolang \
    WHERE c.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND (l.lanname NOT IN ('internal', 'c') \
        OR EXISTS (SELECT FROM pg_catalog.pg_depend e JOIN pg_catalog.pg_extension x ON x.oid = e.refobjid \
            WHERE e.classid = c.classid AND e.objid = c.objid AND e.deptype = 'e' \
            AND e.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass \
            AND x.extname IN ('dblink', 'tablefunc', 'xml2', 'pg_background', 'pg_cron'))) \
    UNION SELECT DISTINCT c.what || ' is of operator class ' || pg_catalog.quote_ident(o.opcname::pg_catalog.text) \
    FROM called c JOIN pg_catalog.pg_opclass o ON o.oid = c.objid \
    WHERE c.classid = 'pg_catalog.pg_opclass'::pg_catalog.regclass \
        AND NOT (EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = c.classid AND e.objid = c.objid \
            AND e.deptype = 'e') AND (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.oid = o.opcowner)) \
    UNION SELECT DISTINCT x.what || CASE WHEN k.by IS NULL THEN ' calls a function that runs SQL' \
        ELSE ' may call ' || k.by END \
    FROM said x JOIN runs f ON x.said LIKE '%' || f.as_said || '%' \
    LEFT JOIN (SELECT p.oid::pg_catalog.regprocedure::pg_catalog.text FROM pg_catalog.pg_cast m \
        JOIN pg_catalog.pg_proc p ON p.oid = m.castfunc JOIN pg_catalog.pg_language l ON l.oid = p.prolang \
        WHERE m.oid >= 16384::pg_catalog.oid AND l.lanname NOT IN ('internal', 'c') AND m.casttarget IN ('pg_catalog.text'::pg_catalog.regtype, \
            'pg_catalog.json'::pg_catalog.regtype, 'pg_catalog.jsonb'::pg_catalog.regtype)) AS k (by) ON f.casts \
    WHERE NOT f.casts OR k.by IS NOT NULL \
    ORDER BY 1";

/// What calls what, of these heaps; for people.
pub(super) async fn of(
    connection: &mut PgConnection,
    heaps: &[Oid],
    place: &Place,
) -> Result<Vec<String>, SourceError> {
    // Not prepared by name: code that ran in this session could have exchanged the statement.
    let found = sqlx::query_scalar(CALLED).bind(heaps).persistent(false);
    found.fetch_all(connection).await.at(place)
}

/// The same for the heap whose name is this literal, with its [`numbers`] at that moment.
pub(super) async fn of_heap(
    connection: &mut PgConnection,
    heap: &str,
    place: &Place,
) -> Result<(String, Vec<String>), SourceError> {
    let oids = format!("ARRAY[pg_catalog.to_regclass({heap})::pg_catalog.oid]");
    let called = CALLED.replace("$1", &oids);
    let sql = format!("SELECT {}, ARRAY({called})", numbers(heap));
    let found = sqlx::query_as(AssertSqlSafe(sql)).persistent(false);
    found.fetch_one(connection).await.at(place)
}

/// Refuses heaps with such code, unless a person trusts it.
///
/// # Errors
/// [`SourceError::RunsCode`].
pub(super) async fn refuse(
    connection: &mut PgConnection,
    heaps: &[Oid],
    trusted: bool,
    place: &Place,
) -> Result<(), SourceError> {
    if trusted {
        return Ok(());
    }
    let found = of(connection, heaps, place).await?;
    if found.is_empty() {
        return Ok(());
    }
    Err(SourceError::RunsCode {
        relation: place.relation.clone(),
        what: found.join(", "),
    })
}

/// A query of the numbers of everything that may bring such code, for the heap whose name is this literal. While its
/// answer stays the same, no code has come.
pub(super) fn numbers(heap: &str) -> String {
    let oid = format!("pg_catalog.to_regclass({heap})::pg_catalog.oid");
    format!(
        "(SELECT coalesce(pg_catalog.string_agg(x.k::pg_catalog.text, ',' ORDER BY x.k), '') FROM ( \
         SELECT k.oid FROM pg_catalog.pg_constraint AS k WHERE k.conrelid OPERATOR(pg_catalog.=) {oid} \
             AND k.contype OPERATOR(pg_catalog.=) 'c' \
         UNION ALL SELECT i.indexrelid FROM pg_catalog.pg_index AS i WHERE i.indrelid OPERATOR(pg_catalog.=) {oid} \
         UNION ALL SELECT d.oid FROM pg_catalog.pg_attrdef AS d WHERE d.adrelid OPERATOR(pg_catalog.=) {oid} \
         UNION ALL SELECT s.oid FROM pg_catalog.pg_statistic_ext AS s WHERE s.stxrelid OPERATOR(pg_catalog.=) {oid} \
         UNION ALL SELECT v.oid FROM pg_catalog.pg_constraint AS v \
             WHERE v.contypid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid \
         UNION ALL SELECT k.oid FROM pg_catalog.pg_cast AS k \
             WHERE k.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid \
         UNION ALL SELECT p.relid::pg_catalog.oid FROM \
             pg_catalog.pg_partition_ancestors(pg_catalog.to_regclass({heap})) AS p (relid)) AS x (k))"
    )
}
