//! Statements that the session answers itself: settings, transactions (nothing to commit), cursors, housekeeping.

use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{DeclareType, Set, Statement};
use datafusion_postgres::QueryHook;
use datafusion_postgres::hooks::HookClient;
use datafusion_postgres::hooks::set_show::SetShowHook;
use pgwire::api::portal::Format;
use pgwire::api::results::{Response, Tag};
use pgwire::api::store::PortalStore;
use pgwire::error::PgWireResult;
use pgwire::messages::response::TransactionStatus;

use super::cursor;
use super::errors::{error, user};
use super::service::{plan, rows};

/// `context` is the statement's own session: what a SET changes in it, nobody else sees.
pub(super) async fn answer(
    statement: &Statement,
    context: &SessionContext,
    client: &mut dyn HookClient,
) -> PgWireResult<Response> {
    refuse_in_failed_transaction(statement, client)?;
    let done = |tag: &str| Ok(Response::Execution(Tag::new(tag)));
    match statement {
        Statement::StartTransaction { .. } => {
            client.set_transaction_status(TransactionStatus::Transaction);
            Ok(Response::TransactionStart(Tag::new("BEGIN")))
        }
        Statement::Rollback { savepoint: Some(_), .. } => {
            client.set_transaction_status(TransactionStatus::Transaction);
            Ok(Response::TransactionStart(Tag::new("ROLLBACK")))
        }
        Statement::Commit { .. } | Statement::Rollback { .. } => {
            client.portal_store().clear_portals();
            let failed = client.transaction_status() == TransactionStatus::Error;
            client.set_transaction_status(TransactionStatus::Idle);
            let commit = matches!(statement, Statement::Commit { .. }) && !failed;
            Ok(Response::TransactionEnd(Tag::new(if commit { "COMMIT" } else { "ROLLBACK" })))
        }
        Statement::Savepoint { .. } => done("SAVEPOINT"),
        Statement::ReleaseSavepoint { .. } => done("RELEASE"),
        Statement::Discard { .. } => {
            client.portal_store().clear_portals();
            done("DISCARD ALL")
        }
        Statement::Reset(_) => done("RESET"),
        Statement::UNLISTEN { .. } => done("UNLISTEN"),
        Statement::Deallocate { name, .. } => {
            client.portal_store().rm_statement(&name.value);
            done("DEALLOCATE")
        }
        Statement::Declare { stmts } => {
            for stmt in stmts {
                let (Some(DeclareType::Cursor), Some(name), Some(query)) =
                    (&stmt.declare_type, stmt.names.first(), &stmt.for_query)
                else {
                    return Err(user(error("42601", "expected DECLARE name CURSOR FOR query")));
                };
                let format = if stmt.binary == Some(true) { Format::UnifiedBinary } else { Format::UnifiedText };
                let plan = plan(context, &Statement::Query(query.clone())).await?;
                let rows = rows(context, plan, &format, client.metadata()).await?;
                cursor::declare(client.portal_store(), name, query.to_string(), rows).await;
            }
            done("DECLARE CURSOR")
        }
        Statement::Fetch { name, direction, .. } => cursor::fetch(client.portal_store(), name, direction).await,
        Statement::Close { cursor } => cursor::close(client.portal_store(), cursor),
        Statement::Set(set) if touches_engine(set) => {
            Err(user(error("42501", "settings of the query engine cannot be changed from a session")))
        }
        _ => match SetShowHook.handle_simple_query(statement, context, client).await {
            Some(response) => response,
            None => Err(user(error("0A000", format!("cannot run {statement} here")))),
        },
    }
}

/// As PostgreSQL: after an error in a transaction block only its end is heard.
pub(super) fn refuse_in_failed_transaction(statement: &Statement, client: &dyn HookClient) -> PgWireResult<()> {
    let ends = matches!(statement, Statement::Commit { .. } | Statement::Rollback { .. });
    if client.transaction_status() == TransactionStatus::Error && !ends {
        let message = "the transaction has failed: statements are ignored until it ends";
        return Err(user(error("25P02", message)));
    }
    Ok(())
}

fn touches_engine(set: &Set) -> bool {
    match set {
        Set::SingleAssignment { variable, .. } => {
            variable.to_string().trim_matches('"').to_ascii_lowercase().starts_with("datafusion")
        }
        Set::ParenthesizedAssignments { .. } | Set::MultipleAssignments { .. } => true,
        _ => false,
    }
}
