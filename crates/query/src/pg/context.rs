//! The DataFusion session behind the door: catalog, PostgreSQL's system tables, limits.

use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider};
use datafusion::common::config::Dialect;
use datafusion::error::Result;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_postgres::datafusion_pg_catalog::setup_pg_catalog;

use super::{PgConfig, json};
use crate::Catalog;
use crate::catalog::{Pin, Public};

const DATABASE: &str = "playhouse";
const SCHEMA: &str = "public";

pub(super) struct Base {
    catalog: Arc<Catalog>,
    session: SessionContext,
}

impl Base {
    pub(super) fn new(catalog: Catalog, config: &PgConfig) -> Result<Base> {
        let mut session = SessionConfig::new()
            .with_default_catalog_and_schema(DATABASE, SCHEMA)
            .with_create_default_catalog_and_schema(false)
            .with_information_schema(true)
            .with_target_partitions(2);
        let options = session.options_mut();
        options.sql_parser.dialect = Dialect::PostgreSQL;
        options.sql_parser.map_string_types_to_utf8view = false;
        options.execution.parquet.schema_force_view_types = false;
        // Set aside by every running sort, so small beside the whole.
        options.execution.sort_spill_reservation_bytes = 2 << 20;
        options.execution.time_zone = Some("+00:00".to_owned());
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(config.memory_bytes)))
            .with_disk_manager_builder(
                DiskManagerBuilder::default()
                    .with_mode(DiskManagerMode::Directories(vec![config.spill_dir.clone()]))
                    .with_max_temp_directory_size(config.spill_bytes_max),
            )
            .build_arc()?;
        let mut session = SessionContext::new_with_config_rt(session, runtime);

        let catalog = Arc::new(catalog);
        let database = Arc::new(MemoryCatalogProvider::new());
        database.register_schema(SCHEMA, Arc::new(Public(catalog.clone())))?;
        session.register_catalog(DATABASE, database);
        setup_pg_catalog(&session, DATABASE, EmptyContextProvider).map_err(|error| *error)?;
        json::register(&mut session)?;
        Ok(Base { catalog, session })
    }

    /// For planning: table names and columns as they are now, no rows.
    pub(super) fn planning(&self) -> &SessionContext {
        &self.session
    }

    /// For one statement: sees the newest snapshot, and keeps it.
    pub(super) fn pinned(&self) -> SessionContext {
        let mut state = self.session.state();
        state.config_mut().set_extension(Arc::new(Pin::new(&self.catalog)));
        SessionContext::new_with_state(state)
    }
}
