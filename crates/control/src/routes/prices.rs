//! Importing prices.

use std::sync::Arc;

use tenancy::catalogue::{Address, Kind, Resource};
use tenancy::{Change, Permission};

use crate::Control;
use crate::api::{PriceImportReport, PriceImportRequest};
use crate::endpoint::{Call, Endpoint, Json, Nothing, Reach, Verb, endpoint};
use crate::error::ApiError;
use crate::prices;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        endpoint(
            Verb::Post,
            "/admin/v1/prices/import",
            "import_prices",
            "Imports prices from a catalogue of somebody else's form",
            Reach::Platform(Permission::WriteCatalogue),
            import,
        )
        .with_large_body(),
    ]
}

async fn import(
    control: Arc<Control>,
    call: Call<Nothing, Json<PriceImportRequest>>,
) -> Result<Json<PriceImportReport>, ApiError> {
    let act = call.act("prices", None)?;
    let Json(request) = call.body;
    let publisher = Arc::clone(&control.publisher);
    publisher
        .in_turn(move |turn| {
            let current = turn.current();
            let now = turn.publisher.clock().now();
            let prices::Import { prices, mut report } =
                prices::import(&request, current.prices(), now)
                    .map_err(|error| ApiError::of("document", error.to_string()))?;
            let changes: Vec<Change> = prices
                .into_iter()
                .map(|(name, price)| Change {
                    address: Address::platform(Kind::Price, name.as_str()),
                    resource: Some(Resource::Price(price)),
                })
                .collect();
            report.version = current.version();
            if request.dry_run {
                turn.check(changes, &[])?;
            } else if !changes.is_empty() {
                report.version = turn.commit(&act, changes, &[])?.version();
            }
            Ok(Json(report))
        })
        .await
}
