//! Statements to a [`Pipeline`].
//!
//! In order of the text every statement is checked and planned against the names before it. Then from the last to the
//! first the plans are optimised, which shows what each reads: so a view computes only the columns that someone wants,
//! and a source decodes only those. Then the physical plans are made, once.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, ident};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as PlannerStatement;
use datafusion::sql::sqlparser::ast::{self, Query, Statement, TableObject};
use siphasher::sip::SipHasher13;

use super::ROW;
use super::decoder::{Layout, SystemColumn};
use super::error::{At, SqlError};
use super::functions::functions;
use super::lookup::LookupTable;
use super::options::{CompileOptions, Options, unknown};
use super::parse::{Parsed, parse};
use super::pipeline::{Dedup, Output, Pipeline, SinkDef, Source, Stage, StreamDef, Watermark};
use super::plan::{self, CachedPlan};
use super::rewrite::{Relation, RelationColumn, RelationKind, Relations, Rewriter, single};
use super::slot::SlotTable;
use super::table::{self, SinkTable, SourceTable, Table};
use super::view::{Above, Aggregate, ViewDef, take_apart};
use crate::sink::Target;

const RETENTION: Duration = Duration::from_secs(7 * 86_400);

/// A query that has been planned, not yet optimised.
struct Draft {
    /// The view's name or the first sink's.
    name: String,
    plan: LogicalPlan,
    source: usize,
    at: At,
    kind: DraftKind,
}

enum DraftKind {
    View(usize),
    Stream,
    Materialized(Box<Materialized>),
}

struct Materialized {
    group_count: usize,
    aggregates: Vec<Aggregate>,
    above: Above,
    output_schema: SchemaRef,
    windowed: bool,
    allowed_lateness: Option<Duration>,
    retention: Duration,
}

struct Compiler {
    options: CompileOptions,
    session: SessionContext,
    relations: Relations,
    sources: Vec<(String, SourceTable)>,
    lookups: BTreeMap<String, Arc<LookupTable>>,
    sinks: BTreeMap<String, SinkTable>,
    /// Numbers of the slots that sources, look-ups and stateless views have in a run.
    slots: BTreeMap<String, usize>,
    drafts: Vec<Draft>,
    /// Text of each inserted query and its draft, so that the same one runs once.
    inserted: BTreeMap<String, usize>,
    /// Sink name, its draft, where it is inserted.
    inserts: Vec<(String, usize, At)>,
    fingerprint: SipHasher13,
}

pub async fn compile(sql: &str, options: CompileOptions) -> Result<Pipeline, SqlError> {
    let session = plan::session();
    for function in functions(&options.functions).map_err(|message| At::default().error(message))? {
        session.register_udf(function);
    }
    let mut compiler = Compiler {
        session,
        relations: Relations::new(),
        sources: Vec::new(),
        lookups: BTreeMap::new(),
        sinks: BTreeMap::new(),
        slots: BTreeMap::new(),
        drafts: Vec::new(),
        inserted: BTreeMap::new(),
        inserts: Vec::new(),
        fingerprint: SipHasher13::new(),
        options,
    };
    compiler.stamp(env!("CARGO_PKG_VERSION").as_bytes());
    for data in [compiler.options.functions.geoip.clone(), compiler.options.functions.user_agents.clone()] {
        compiler.stamp(&data.unwrap_or_default());
    }
    for Parsed { statement, at } in parse(sql, &compiler.options.variables)? {
        compiler.stamp(statement.to_string().as_bytes());
        compiler.statement(statement, at).await?;
    }
    compiler.finish().await
}

impl Compiler {
    /// Into the fingerprint, with the length, so that nothing runs into what follows.
    fn stamp(&mut self, bytes: &[u8]) {
        self.fingerprint.write_u64(bytes.len() as u64);
        self.fingerprint.write(bytes);
    }

    async fn statement(&mut self, statement: Statement, at: At) -> Result<(), SqlError> {
        match statement {
            Statement::CreateTable(table) => self.table(&table, &at),
            Statement::CreateView(view) => self.view(view, at).await,
            Statement::Insert(insert) => self.insert(insert, at).await,
            _ => Err(at.error(
                "a pipeline is made of CREATE TABLE, CREATE VIEW, CREATE MATERIALIZED VIEW and INSERT INTO … SELECT",
            )),
        }
    }

    fn new_name(&self, name: &ast::ObjectName, at: &At) -> Result<String, SqlError> {
        let name = single(name, at)?;
        match self.relations.contains_key(&name) {
            true => Err(at.error(format!("{name} exists already"))),
            false => Ok(name),
        }
    }

    fn table(&mut self, table: &ast::CreateTable, at: &At) -> Result<(), SqlError> {
        let name = self.new_name(&table.name, at)?;
        let (kind, columns) = match table::read(table, &self.options, &name, at)? {
            Table::Source(source) => {
                if let Some((other, _)) = self.sources.iter().find(|(_, other)| other.topic == source.topic) {
                    let topic = &source.topic;
                    return Err(at.error(format!(
                        "topic {topic:?} is read by {other} already: a pipeline reads a topic once, read {other} in views"
                    )));
                }
                let mut fields: Vec<(Field, bool)> =
                    source.columns.iter().map(|column| (column.arrow(), true)).collect();
                for (name, column) in SystemColumn::ALL {
                    fields.push((Field::new(name, column.data_type(), column.nullable()), false));
                }
                self.slot_table(&name, fields.iter().map(|(field, _)| field.clone()).collect(), at)?;
                self.sources.push((name.clone(), source));
                (RelationKind::Stream(self.sources.len() - 1), relation_columns(&fields))
            }
            Table::Lookup(lookup, bytes) => {
                self.stamp(&bytes);
                let fields = lookup.rows.schema_ref().fields().iter().map(|field| field.as_ref().clone()).collect();
                let shown: Vec<(Field, bool)> = Vec::clone(&fields).into_iter().map(|field| (field, true)).collect();
                self.slot_table(&name, fields, at)?;
                self.lookups.insert(name.clone(), Arc::new(lookup));
                (RelationKind::Lookup, relation_columns(&shown))
            }
            Table::Sink(sink) => {
                self.sinks.insert(name.clone(), sink);
                (RelationKind::Sink, Vec::new())
            }
        };
        self.relations.insert(name, Relation { kind, columns });
        Ok(())
    }

    /// Makes `name` known to the planner.
    fn slot_table(&mut self, name: &str, fields: Vec<Field>, at: &At) -> Result<usize, SqlError> {
        let slot = self.slots.len();
        let table = SlotTable { schema: Arc::new(Schema::new(fields)), slot };
        let reference = datafusion::common::TableReference::bare(name);
        self.session.register_table(reference, Arc::new(table)).map_err(|error| at.planner(error))?;
        self.slots.insert(name.to_string(), slot);
        Ok(slot)
    }

    async fn view(&mut self, mut view: ast::CreateView, at: At) -> Result<(), SqlError> {
        let name = self.new_name(&view.name, &at)?;
        if view.or_replace || view.or_alter || view.temporary || view.if_not_exists || !view.columns.is_empty() {
            return Err(at.error("write CREATE [MATERIALIZED] VIEW name [WITH (…)] AS SELECT … and nothing more"));
        }
        if view.materialized {
            return self.materialized(name, view, at).await;
        }
        Options::read(&view.options, &[], &at)?;
        let (plan, source) =
            self.plan(&mut view.query, true, false, &at).await.map(|(plan, reads)| (plan, reads.source))?;
        let fields: Vec<(Field, bool)> =
            plan.schema().fields().iter().map(|field| (field.as_ref().clone(), field.name() != ROW)).collect();
        let slot = self.slot_table(&name, fields.iter().map(|(field, _)| field.clone()).collect(), &at)?;
        let relation = Relation { kind: RelationKind::Stream(source), columns: relation_columns(&fields) };
        self.relations.insert(name.clone(), relation);
        self.drafts.push(Draft { name, plan, source, at, kind: DraftKind::View(slot) });
        Ok(())
    }

    async fn materialized(&mut self, name: String, mut view: ast::CreateView, at: At) -> Result<(), SqlError> {
        let options = Options::read(&view.options, &["allowed_lateness", "retention"], &at)?;
        let lateness = options.get("allowed_lateness");
        let retention = options.duration("retention")?.unwrap_or(RETENTION);
        let (plan, reads) = self.plan(&mut view.query, false, true, &at).await?;
        let allowed_lateness = match lateness {
            Some(("unlimited", _)) => None,
            Some((_, at)) if !reads.windowed => {
                return Err(at.error("allowed_lateness has no meaning without windows: read TUMBLE(…) or leave it out"));
            }
            Some(_) => options.duration("allowed_lateness")?,
            None => reads.windowed.then_some(Duration::ZERO),
        };
        if reads.windowed && allowed_lateness.is_some() && self.sources[reads.source].1.watermark.is_none() {
            let source = &self.sources[reads.source].0;
            return Err(at.error(format!(
                "windows close by the watermark, and {source} declares none: add watermark = '<time column>' to it or \
                 allowed_lateness = 'unlimited' here"
            )));
        }
        let state = self.session.state();
        let analysed = state
            .analyzer()
            .execute_and_check(plan, state.config_options(), |_, _| {})
            .map_err(|error| at.planner(error))?;
        let parts = take_apart(&analysed, reads.windowed, &state).map_err(|error| at.planner(error))?;
        let materialized = Materialized {
            group_count: parts.group_count,
            aggregates: parts.aggregates,
            above: parts.above,
            output_schema: parts.output_schema,
            windowed: reads.windowed,
            allowed_lateness,
            retention,
        };
        self.relations.insert(name.clone(), Relation { kind: RelationKind::Materialized, columns: Vec::new() });
        let kind = DraftKind::Materialized(Box::new(materialized));
        self.drafts.push(Draft { name, plan: parts.below, source: reads.source, at, kind });
        Ok(())
    }

    async fn insert(&mut self, insert: ast::Insert, at: At) -> Result<(), SqlError> {
        let TableObject::TableName(name) = &insert.table else {
            return Err(at.error("write INSERT INTO table SELECT …"));
        };
        let name = single(name, &at)?;
        if !self.sinks.contains_key(&name) {
            let known: Vec<&str> = self.sinks.keys().map(String::as_str).collect();
            return Err(at.error(match self.relations.contains_key(&name) {
                true => format!("{name} is no sink: CREATE TABLE … WITH (connector = '…') declares one"),
                false => unknown("sink", &name, &known),
            }));
        }
        if let Some((_, _, first)) = self.inserts.iter().find(|(other, ..)| *other == name) {
            let message = format!("{name} is written in line {} already: a sink takes one INSERT", first.line);
            return Err(at.error(message));
        }
        let Some(mut query) = insert.source.filter(|_| insert.columns.is_empty() && insert.on.is_none()) else {
            return Err(at.error("write INSERT INTO table SELECT …, without a column list and ON CONFLICT"));
        };
        let text = query.to_string();
        let draft = match self.inserted.get(&text) {
            Some(draft) => *draft,
            None => {
                let (plan, reads) = self.plan(&mut query, false, false, &at).await?;
                let kind = DraftKind::Stream;
                let source = reads.source;
                self.drafts.push(Draft { name: name.clone(), plan, source, at: at.clone(), kind });
                self.inserted.insert(text, self.drafts.len() - 1);
                self.drafts.len() - 1
            }
        };
        self.inserts.push((name, draft, at));
        Ok(())
    }

    /// Rewrites, plans and checks one query.
    async fn plan(
        &self,
        query: &mut Query,
        row: bool,
        materialized: bool,
        at: &At,
    ) -> Result<(LogicalPlan, super::rewrite::Reads), SqlError> {
        let rewriter = Rewriter { relations: &self.relations, at, windows: materialized };
        let reads = rewriter.query(query, row)?;
        let statement = PlannerStatement::Statement(Box::new(Statement::Query(Box::new(query.clone()))));
        let planned = self.session.state().statement_to_plan(statement).await.map_err(|error| at.planner(error))?;
        let prepared = plan::prepare(planned, &self.lookups, materialized, at)?;
        Ok((plan::normalise(prepared).map_err(|error| at.planner(error))?, reads))
    }

    async fn finish(mut self) -> Result<Pipeline, SqlError> {
        let mut read: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut optimised: Vec<(usize, Draft, LogicalPlan)> = Vec::new();
        let state = self.session.state();
        for (index, mut draft) in std::mem::take(&mut self.drafts).into_iter().enumerate().rev() {
            if let DraftKind::View(_) = draft.kind {
                let Some(wanted) = read.get(&draft.name) else {
                    // Nobody reads this view.
                    continue;
                };
                let columns = wanted.iter().map(|name| ident(name.as_str()));
                draft.plan = LogicalPlanBuilder::from(draft.plan)
                    .project(columns)
                    .and_then(LogicalPlanBuilder::build)
                    .map_err(|error| draft.at.planner(error))?;
            }
            let plan = state.optimize(&draft.plan).map_err(|error| draft.at.planner(error))?;
            plan::scanned(&plan, &mut read).map_err(|error| draft.at.planner(error))?;
            optimised.push((index, draft, plan));
        }
        optimised.reverse();
        let sources: Vec<Source> =
            self.sources.iter().map(|(name, table)| source(name, table, read.get(name))).collect();
        let mut pipeline = Pipeline {
            name: self.options.name.clone(),
            fingerprint: self.fingerprint.finish(),
            inputs: sources.iter().map(|source| self.slots[&source.table]).collect(),
            slots: self.slots.len(),
            sources,
            streams: Vec::new(),
            views: Vec::new(),
            sinks: Vec::new(),
            stages: Vec::new(),
            session: self.session.copied_config(),
            runtime: self.session.runtime_env(),
        };
        for (index, draft, plan) in optimised {
            self.stage(&mut pipeline, draft, plan).await?;
            let inserts = self.inserts.iter().filter(|(_, draft, _)| *draft == index);
            for (name, ..) in inserts {
                let stream = pipeline.streams.len() - 1;
                let target = self.target(name, &pipeline.streams[stream].schema)?;
                pipeline.sinks.push(SinkDef { target, stream });
            }
        }
        Ok(pipeline)
    }

    async fn stage(&self, pipeline: &mut Pipeline, draft: Draft, plan: LogicalPlan) -> Result<(), SqlError> {
        let mut read = BTreeMap::new();
        plan::scanned(&plan, &mut read).map_err(|error| draft.at.planner(error))?;
        let reads = read.keys().filter_map(|table| self.slots.get(table).copied()).collect();
        let plan = CachedPlan::new(&plan, &self.session.state(), &self.slots)
            .await
            .map_err(|error| draft.at.planner(error))?;
        let output = match draft.kind {
            DraftKind::View(slot) => Output::Slot(slot),
            DraftKind::Stream => {
                let schema = plan.schema().clone();
                pipeline.streams.push(StreamDef { name: draft.name.clone(), schema, source: draft.source });
                Output::Stream(pipeline.streams.len() - 1)
            }
            DraftKind::Materialized(view) => {
                pipeline.views.push(ViewDef {
                    name: draft.name.clone(),
                    partial_schema: plan.schema().clone(),
                    group_count: view.group_count,
                    aggregates: view.aggregates,
                    windowed: view.windowed,
                    source: draft.source,
                    allowed_lateness: view.allowed_lateness,
                    retention: view.retention,
                    output_schema: view.output_schema,
                    above: Arc::new(view.above),
                });
                Output::Partial(pipeline.views.len() - 1)
            }
        };
        pipeline.stages.push(Stage { name: draft.name, plan, reads, output });
        Ok(())
    }

    fn target(&self, name: &str, schema: &SchemaRef) -> Result<Target, SqlError> {
        let sink = &self.sinks[name];
        let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let primary_key = sink.check(&self.options, &columns)?;
        Ok(Target { name: name.to_string(), options: sink.options.clone(), schema: schema.clone(), primary_key })
    }
}

fn relation_columns(fields: &[(Field, bool)]) -> Vec<RelationColumn> {
    fields
        .iter()
        .map(|(field, visible)| RelationColumn {
            name: field.name().clone(),
            data_type: field.data_type().clone(),
            visible: *visible,
        })
        .collect()
}

/// The source as far as it is read.
fn source(name: &str, table: &SourceTable, read: Option<&BTreeSet<String>>) -> Source {
    let wanted = |column: &str| {
        read.is_some_and(|read| read.contains(column))
            || table.dedup.as_ref().is_some_and(|(dedup, _)| dedup == column)
            || table.watermark.as_ref().is_some_and(|(watermark, ..)| watermark == column)
            || column == ROW
    };
    let mut fields = Vec::new();
    let mut decoded = Vec::new();
    for column in &table.columns {
        decoded.push(column.field(wanted(&column.name).then_some(fields.len())));
        if wanted(&column.name) {
            fields.push(column.arrow());
        }
    }
    let mut system = Vec::new();
    for (name, column) in SystemColumn::ALL {
        if wanted(name) {
            system.push((column, fields.len()));
            fields.push(Field::new(name, column.data_type(), column.nullable()));
        }
    }
    let schema = Arc::new(Schema::new(fields));
    let index = |name: &str| schema.index_of(name).expect("what dedup and watermark name is wanted above");
    Source {
        table: name.to_string(),
        topic: table.topic.clone(),
        dedup: table.dedup.as_ref().map(|(column, window)| Dedup { column: index(column), window: *window }),
        watermark: table.watermark.as_ref().map(|(column, delay, idle_timeout)| Watermark {
            column: index(column),
            delay: *delay,
            idle_timeout: *idle_timeout,
        }),
        layout: Arc::new(Layout { topic: table.topic.clone(), schema: schema.clone(), fields: decoded, system }),
        schema,
    }
}
