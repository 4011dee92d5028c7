//! Simple and extended queries.
//!
//! A statement is planned on names and columns; its rows come from the snapshot that its session carries. So a prepared
//! statement is planned once and sees a new snapshot at every execution.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::DFSchema;
use datafusion::logical_expr::{EmptyRelation, LogicalPlan};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as Planned;
use datafusion::sql::sqlparser::ast::Statement;
use datafusion_postgres::arrow_pg::datatypes::df::encode_dataframe;
use datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use datafusion_postgres::hooks::HookClient;
use datafusion_postgres::hooks::set_show::SetShowHook;
use datafusion_postgres::{DfSessionService, Parser, QueryHook};
use futures::{Sink, SinkExt};
use pgwire::api::portal::{Format, Portal, PortalExecutionState};
use pgwire::api::query::{
    ExtendedQueryHandler, SimpleQueryHandler, send_execution_response, send_partial_query_response,
    send_query_response, send_ready_for_query,
};
use pgwire::api::results::{DescribePortalResponse, DescribeStatementResponse, FieldInfo, QueryResponse, Response};
use pgwire::api::stmt::{QueryParser, StoredStatement};
use pgwire::api::store::{Entry, MemPortalStore, PortalStore};
use pgwire::api::{ClientInfo, ClientPortalStore, DEFAULT_NAME, PgWireConnectionState, Type};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::extendedquery::{Bind, BindComplete, Execute};
use pgwire::messages::response::EmptyQueryResponse;
use pgwire::messages::simplequery::Query;
use pgwire::types::format::FormatOptions;

use super::context::Base;
use super::cursor::{self, Prepared};
use super::errors::{engine, error, from_parser, user};
use super::statements::{Kind, check_depth, classify, verify};
use super::{fractions, session};

pub(super) struct Service {
    base: Arc<Base>,
    parser: Arc<StatementParser>,
}

impl Service {
    pub(super) fn new(base: Arc<Base>) -> Service {
        let library = DfSessionService::new_with_hooks(Arc::new(base.planning().clone()), vec![]);
        let parser = StatementParser {
            base: base.clone(),
            sql: PostgresCompatibilityParser::new(),
            types: library.query_parser(),
        };
        Service { base, parser: Arc::new(parser) }
    }

    async fn simple(&self, statement: &Statement, client: &mut dyn HookClient) -> PgWireResult<Response> {
        let kind = classify(statement)?;
        session::refuse_in_failed_transaction(statement, client)?;
        let context = self.base.pinned();
        if kind == Kind::Session {
            return session::answer(statement, &context, client).await;
        }
        let plan = plan(&context, statement).await?;
        Ok(Response::Query(rows(&context, plan, &Format::UnifiedText, client.metadata()).await?))
    }
}

pub(super) async fn plan(context: &SessionContext, statement: &Statement) -> PgWireResult<LogicalPlan> {
    let statement = Planned::Statement(Box::new(statement.clone()));
    let plan = context.state().statement_to_plan(statement).await.map_err(engine)?;
    verify(&plan)?;
    Ok(plan)
}

pub(super) async fn rows(
    context: &SessionContext,
    plan: LogicalPlan,
    format: &Format,
    settings: &HashMap<String, String>,
) -> PgWireResult<QueryResponse> {
    let frame = context.execute_logical_plan(plan).await.map_err(engine)?;
    let options = Arc::new(FormatOptions::from_client_metadata(settings));
    encode_dataframe(frame, format, Some(options)).await.map(fractions::trimmed)
}

#[async_trait]
impl SimpleQueryHandler for Service {
    /// One statement after the other: each is run when the one before has been answered, and the first error is the last.
    async fn on_query<C>(&self, client: &mut C, query: Query) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        client.set_state(PgWireConnectionState::QueryInProgress);
        let statements = self.parser.parse(&query.query)?;
        if statements.is_empty() {
            client.feed(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new())).await?;
        }
        for statement in &statements {
            match self.simple(statement, client).await? {
                Response::Query(rows) => send_query_response(client, rows, true).await?,
                Response::Execution(tag) | Response::TransactionStart(tag) | Response::TransactionEnd(tag) => {
                    send_execution_response(client, tag).await?;
                }
                _ => return Err(user(error("0A000", "this response is not supported"))),
            }
        }
        client.set_state(PgWireConnectionState::ReadyForQuery);
        send_ready_for_query(client, client.transaction_status()).await
    }

    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let mut responses = Vec::new();
        for statement in &self.parser.parse(query)? {
            responses.push(self.simple(statement, client).await?);
        }
        Ok(responses)
    }
}

#[async_trait]
impl ExtendedQueryHandler for Service {
    type Statement = Prepared;
    type QueryParser = StatementParser;

    fn query_parser(&self) -> Arc<StatementParser> {
        self.parser.clone()
    }

    async fn on_bind<C>(&self, client: &mut C, message: Bind) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.statement_name.as_deref().unwrap_or(DEFAULT_NAME);
        match client.portal_store().get_statement(name) {
            Some(Entry::Value(statement)) => {
                self.parser.check_bind(&message, &statement)?;
                client.portal_store().put_portal(Arc::new(Portal::try_new(&message, statement)?));
            }
            Some(Entry::Empty) => {
                client.portal_store().put_empty_portal(message.portal_name.as_deref().unwrap_or(DEFAULT_NAME));
            }
            None => return Err(user(error("26000", format!("prepared statement \"{name}\" does not exist")))),
        }
        client.feed(PgWireBackendMessage::BindComplete(BindComplete::new())).await?;
        Ok(())
    }

    async fn do_describe_statement<C>(
        &self,
        client: &mut C,
        target: &StoredStatement<Prepared>,
    ) -> PgWireResult<DescribeStatementResponse>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if let Some(fields) = cursor_fields(client, &target.statement).await? {
            return Ok(DescribeStatementResponse::new(vec![], fields));
        }
        let server = self.parser.get_parameter_types(&target.statement)?;
        let client_types = &target.parameter_types;
        let types = (0..server.len().max(client_types.len()))
            .map(|index| match client_types.get(index) {
                Some(Some(given)) => given.clone(),
                _ => server.get(index).cloned().unwrap_or(Type::UNKNOWN),
            })
            .collect();
        Ok(DescribeStatementResponse::new(types, self.parser.get_result_schema(&target.statement, None)?))
    }

    async fn do_describe_portal<C>(
        &self,
        client: &mut C,
        portal: &Portal<Prepared>,
    ) -> PgWireResult<DescribePortalResponse>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let statement = &portal.statement.statement;
        // A cursor is a portal too, already running.
        if let PortalExecutionState::Suspended(rows) = &*portal.state().lock().await {
            return Ok(DescribePortalResponse::new(rows.row_schema().as_ref().clone()));
        }
        let fields = match cursor_fields(client, statement).await? {
            Some(fields) => fields,
            None => self.parser.get_result_schema(statement, Some(&portal.result_column_format))?,
        };
        Ok(DescribePortalResponse::new(fields))
    }

    /// Sends rows as they are produced; the library's own version collects a portal's rows first.
    async fn on_execute<C>(&self, client: &mut C, message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        let portal = match client.portal_store().get_portal(name) {
            Some(Entry::Value(portal)) => portal,
            Some(Entry::Empty) => {
                client.feed(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new())).await?;
                return Ok(());
            }
            None => return Err(user(error("34000", format!("portal \"{name}\" does not exist")))),
        };
        let max_rows = usize::try_from(message.max_rows).unwrap_or(0);
        client.set_state(PgWireConnectionState::QueryInProgress);
        let state = portal.state();
        let mut state = state.lock().await;
        if matches!(&*state, PortalExecutionState::Initial) {
            match ExtendedQueryHandler::do_query(self, client, &portal, max_rows).await? {
                Response::Query(rows) => *state = PortalExecutionState::Suspended(cursor::fused(rows)),
                Response::Execution(tag) | Response::TransactionStart(tag) | Response::TransactionEnd(tag) => {
                    send_execution_response(client, tag).await?;
                    *state = PortalExecutionState::Finished;
                }
                _ => return Err(user(error("0A000", "this response is not supported"))),
            }
        }
        if let PortalExecutionState::Suspended(rows) = &mut *state
            && !send_partial_query_response(client, rows, max_rows).await?
        {
            *state = PortalExecutionState::Finished;
        }
        client.set_state(PgWireConnectionState::ReadyForQuery);
        Ok(())
    }

    async fn do_query<C>(&self, client: &mut C, portal: &Portal<Prepared>, max_rows: usize) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let (_, Some((statement, _))) = &portal.statement.statement else {
            return Err(user(error("34000", "the portal belongs to a cursor: use FETCH")));
        };
        session::refuse_in_failed_transaction(statement, client)?;
        let context = self.base.pinned();
        if classify(statement)? == Kind::Session {
            return session::answer(statement, &context, client).await;
        }
        // The library binds the parameters and encodes the rows.
        let library = DfSessionService::new_with_hooks(Arc::new(context), vec![]);
        match ExtendedQueryHandler::do_query(&library, client, portal, max_rows).await? {
            Response::Query(rows) => Ok(Response::Query(fractions::trimmed(rows))),
            other => Ok(other),
        }
    }
}

/// The columns that a FETCH will return: those of its cursor.
async fn cursor_fields<C>(client: &C, statement: &Prepared) -> PgWireResult<Option<Vec<FieldInfo>>>
where
    C: ClientPortalStore + Sync,
    C::PortalStore: PortalStore,
{
    let (_, Some((Statement::Fetch { name, .. }, _))) = statement else { return Ok(None) };
    let store = client.portal_store().as_any().downcast_ref::<MemPortalStore<Prepared>>();
    let store = store.ok_or_else(|| user(error("XX000", "the connection keeps no cursors")))?;
    let state = cursor::find(store, name)?.state();
    let state = state.lock().await;
    Ok(match &*state {
        PortalExecutionState::Suspended(rows) => Some(rows.row_schema().as_ref().clone()),
        _ => None,
    })
}

/// Parses and plans; the library infers parameter types and describes columns.
pub(super) struct StatementParser {
    base: Arc<Base>,
    sql: PostgresCompatibilityParser,
    types: Arc<Parser>,
}

impl StatementParser {
    fn parse(&self, query: &str) -> PgWireResult<Vec<Statement>> {
        check_depth(query)?;
        self.sql.parse(query).map_err(|found| user(from_parser(&found)))
    }

    /// Counts that do not fit would be out of bounds further down.
    fn check_bind(&self, bind: &Bind, statement: &StoredStatement<Prepared>) -> PgWireResult<()> {
        let fits = |codes: usize, values: usize| codes <= 1 || codes == values;
        let parameters = self.get_parameter_types(&statement.statement)?.len();
        if bind.parameters.len() != parameters {
            let message = format!("the statement has {parameters} parameters, but {} are bound", bind.parameters.len());
            return Err(user(error("08P01", message)));
        }
        let is_fetch = matches!(&statement.statement, (_, Some((Statement::Fetch { .. }, _))));
        let columns = self.get_result_schema(&statement.statement, None)?.len();
        if !fits(bind.parameter_format_codes.len(), parameters)
            || (!is_fetch && !fits(bind.result_column_format_codes.len(), columns))
        {
            return Err(user(error("08P01", "the number of format codes does not fit parameters or columns")));
        }
        Ok(())
    }
}

#[async_trait]
impl QueryParser for StatementParser {
    type Statement = Prepared;

    async fn parse_sql<C>(&self, client: &C, sql: &str, _types: &[Option<Type>]) -> PgWireResult<Option<Prepared>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let mut statements = self.parse(sql)?;
        let Some(statement) = statements.pop() else { return Ok(None) };
        if !statements.is_empty() {
            return Err(user(error("42601", "cannot prepare more than one statement at once")));
        }
        let context = self.base.planning();
        let plan = match classify(&statement)? {
            Kind::Query => plan(context, &statement).await?,
            Kind::Session => match SetShowHook.handle_extended_parse_query(&statement, context, client).await {
                Some(plan) => plan?,
                None => nothing(),
            },
        };
        Ok(Some((statement.to_string(), Some((statement, plan)))))
    }

    fn get_parameter_types(&self, statement: &Prepared) -> PgWireResult<Vec<Type>> {
        self.types.get_parameter_types(statement)
    }

    fn get_result_schema(&self, statement: &Prepared, format: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
        self.types.get_result_schema(statement, format)
    }
}

/// Stands in for the plan of a statement that the session answers without rows.
fn nothing() -> LogicalPlan {
    LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema: Arc::new(DFSchema::empty()) })
}
