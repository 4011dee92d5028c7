//! A JSON Schema together with what it refers to, found by address as the specification has it: `$id`, anchors, JSON pointers.
//! What is not among the references is not fetched.

use std::sync::{Arc, Mutex, PoisonError};

use jsonschema::{Draft, ReferencingError, Registry, Retrieve, Uri};
use referencing::{Resolver, ResourceRef, uri};
use serde_json::Value;

/// Where a schema without an address of its own stands.
const NOWHERE: &str = "json-schema:///";
/// References to references to references.
pub(crate) const CHAIN_MAX: usize = 200;

#[derive(Debug)]
pub(crate) struct Document {
    registry: Registry<'static>,
    base: Uri<String>,
    /// Where the references stand that are needed.
    others: Vec<Uri<String>>,
}

impl Document {
    /// `references` by the names that the schemas have for them.
    pub(crate) fn new(mut root: Value, references: Vec<(String, Value)>) -> Result<Document, ReferencingError> {
        name_dialect(&mut root);
        let mut named = Named { references, served: Mutex::new(Vec::new()) };
        named.references.iter_mut().for_each(|(_, schema)| name_dialect(schema));
        let named = Arc::new(named);
        let draft = Draft::default().detect(&root);
        let base = uri::from_str(ResourceRef::new(&root, draft).id().unwrap_or(NOWHERE))?;
        let registry = Registry::new()
            .retriever(Arc::clone(&named) as Arc<dyn Retrieve>)
            .add(base.as_str(), draft.create_resource(root))?
            .prepare()?;
        let others = std::mem::take(&mut *named.served.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Document { registry, base, others })
    }

    pub(crate) fn root(&self) -> Result<Place<'_>, ReferencingError> {
        self.place(&self.base)
    }

    /// The schema, and each one that it or they refer to.
    pub(crate) fn all(&self) -> impl Iterator<Item = Place<'_>> {
        std::iter::once(&self.base).chain(&self.others).filter_map(|uri| self.place(uri).ok())
    }

    /// For the reference validator, which is to find the same.
    pub(crate) fn registry(&self) -> &Registry<'static> {
        &self.registry
    }

    fn place(&self, uri: &Uri<String>) -> Result<Place<'_>, ReferencingError> {
        let (schema, resolver, draft) = self.registry.resolver(uri.clone()).lookup("")?.into_inner();
        Ok(Place { schema, draft, resolver })
    }
}

/// A part of a schema, and where its references lead from.
#[derive(Debug, Clone)]
pub(crate) struct Place<'a> {
    pub(crate) schema: &'a Value,
    pub(crate) draft: Draft,
    resolver: Resolver<'a>,
}

impl<'a> Place<'a> {
    /// A part of this part.
    pub(crate) fn within(&self, schema: &'a Value) -> Place<'a> {
        let draft = self.draft.detect(schema);
        let resolver = self.resolver.in_subresource(ResourceRef::new(schema, draft));
        Place { schema, draft, resolver: resolver.unwrap_or_else(|_| self.resolver.clone()) }
    }

    pub(crate) fn follow(&self, reference: &str) -> Option<Place<'a>> {
        let (schema, resolver, draft) = self.resolver.lookup(reference).ok()?.into_inner();
        Some(Place { schema, draft: draft.detect(schema), resolver })
    }

    /// Where this leads to if it is a reference and nothing else.
    pub(crate) fn settled(&self) -> Place<'a> {
        let mut place = self.clone();
        for _ in 0..CHAIN_MAX {
            let Value::Object(keywords) = place.schema else { break };
            let reference = keywords.get("$ref").and_then(Value::as_str).filter(|_| keywords.len() == 1);
            let Some(target) = reference.and_then(|reference| place.follow(reference)) else { break };
            place = target;
        }
        place
    }

    /// Tells parts of one document apart.
    pub(crate) fn id(&self) -> usize {
        std::ptr::from_ref(self.schema) as usize
    }
}

/// A schema that names no dialect is of the newest, unless only an old one takes it: `items` was a list, `exclusiveMaximum` a
/// flag.
fn name_dialect(schema: &mut Value) {
    if schema.get("$schema").is_some() || jsonschema::draft202012::meta::is_valid(schema) {
        return;
    }
    let dialect = if jsonschema::draft7::meta::is_valid(schema) {
        "http://json-schema.org/draft-07/schema#"
    } else if jsonschema::draft4::meta::is_valid(schema) {
        "http://json-schema.org/draft-04/schema#"
    } else {
        return;
    };
    if let Value::Object(keywords) = schema {
        keywords.insert("$schema".to_owned(), dialect.into());
    }
}

struct Named {
    references: Vec<(String, Value)>,
    served: Mutex<Vec<Uri<String>>>,
}

impl Retrieve for Named {
    /// The reference of that name, of that address, or the one whose name is the longest end of it.
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        let wanted = uri.as_str();
        let ends = |name: &str| {
            let name = name.trim_start_matches("./");
            wanted.strip_suffix(name).is_some_and(|front| front.is_empty() || front.ends_with(['/', ':']))
        };
        let is_at = |schema: &Value| {
            let draft = Draft::default().detect(schema);
            ResourceRef::new(schema, draft).id() == Some(wanted)
        };
        let found = self
            .references
            .iter()
            .find(|(name, _)| name.trim_end_matches('#') == wanted)
            .or_else(|| self.references.iter().find(|(_, schema)| is_at(schema)))
            .or_else(|| self.references.iter().filter(|(name, _)| ends(name)).max_by_key(|(name, _)| name.len()));
        let (_, schema) = found.ok_or("it is not among the references")?;
        self.served.lock().unwrap_or_else(PoisonError::into_inner).push(uri.clone());
        Ok(schema.clone())
    }
}
