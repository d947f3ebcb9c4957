//! The OpenAPI 3.1 document, from the route table.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::api::ErrorReply;
use crate::endpoint::{Endpoint, Reach, Reading};
use crate::options::MetricsAccess;
use crate::routes::endpoints;

/// The document that describes the admin API, as it is served and committed.
pub fn openapi() -> Value {
    document(&endpoints(MetricsAccess::Operators))
}

/// OpenAPI 3.1 takes JSON Schema 2020-12 as it is, so that schemars' schemas go in unchanged.
pub(crate) fn document(endpoints: &[Endpoint]) -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut generator = settings.into_generator();
    let error = generator.subschema_for::<ErrorReply>();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for endpoint in endpoints {
        let operation = operation(endpoint, &mut generator, &error);
        let verb = endpoint.verb.as_str().to_ascii_lowercase();
        paths
            .entry(&endpoint.path)
            .or_default()
            .insert(verb, operation);
    }
    let schemas: Map<String, Value> = generator.take_definitions(true).into_iter().collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Partywall admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Onboarding, publishing configuration, usage and audit reads. \
                Operators reach everything that their role allows; a tenant's administrator \
                reaches that tenant alone, and whatever else there is does not exist for it.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas,
        },
    })
}

fn operation(endpoint: &Endpoint, generator: &mut SchemaGenerator, error: &Schema) -> Value {
    let description = (endpoint.describe)(generator);
    let mut parameters = path_parameters(&endpoint.path);
    parameters.extend(
        description
            .query
            .as_ref()
            .map(query_parameters)
            .unwrap_or_default(),
    );
    let mut answer = json!({"description": "Done"});
    if let Some((content_type, schema)) = description.answer {
        answer["content"] = json!({content_type: {"schema": schema}});
    }
    let mut operation = json!({
        "operationId": endpoint.operation_id,
        "summary": endpoint.summary,
        "parameters": parameters,
        "responses": {
            description.status.as_str(): answer,
            "default": {
                "description": "Refused",
                "content": {"application/json": {"schema": error}},
            },
        },
    });
    if let Some(schema) = description.body {
        operation["requestBody"] = json!({"content": {"application/json": {"schema": schema}}});
    }
    if endpoint.reading == Reading::Archive {
        let archive = json!({"type": "string", "format": "binary"});
        operation["requestBody"] = json!({"content": {"application/x-tar": {"schema": archive}}});
    }
    match endpoint.reach {
        Reach::Public => operation["security"] = json!([]),
        Reach::Platform(permission) => {
            operation["x-partywall-reach"] = json!({"platform": format!("{permission:?}")});
        }
        Reach::Tenant(permission) => {
            operation["x-partywall-reach"] = json!({"tenant": format!("{permission:?}")});
        }
    }
    operation
}

fn path_parameters(path: &str) -> Vec<Value> {
    let parts = path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameter =
        |name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}});
    parts.map(parameter).collect()
}

fn query_parameters(schema: &Schema) -> Vec<Value> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return Vec::new();
    };
    let parameter = |(name, schema): (&String, &Value)| {
        let mut schema = schema.clone();
        let description = schema
            .as_object_mut()
            .and_then(|schema| schema.remove("description"));
        json!({
            "name": name,
            "in": "query",
            "required": false,
            "description": description.unwrap_or_default(),
            "schema": schema,
        })
    };
    properties.iter().map(parameter).collect()
}
