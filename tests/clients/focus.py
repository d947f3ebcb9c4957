"""Reads what the validator says of an export, and the export itself."""

import csv
import json
import re
import sys
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet

# The 21 columns that FOCUS 1.4 makes mandatory.
MANDATORY = """BilledCost BillingAccountId BillingAccountName BillingCurrency BillingPeriodEnd
BillingPeriodStart ChargeCategory ChargeClass ChargeDescription ChargePeriodEnd ChargePeriodStart
ContractedCost EffectiveCost HostProviderName InvoiceIssuerName ListCost PricingQuantity PricingUnit
ServiceCategory ServiceName ServiceProviderName""".split()

# What focus_validator 1.0.0 finds in any file: its list of currencies is not in its package, one
# rule asks for a column that FOCUS 1.0 does not have (ChargeType), and four of its columns have names
# that no version of FOCUS has (ProviderName, ResourceId, ...).
OF_THE_VALIDATOR = {
    "BillingCurrency_IsCurrencyCode",
    "InvoiceIssuer_Required",
    "Provider_Required",
    "Publisher_Required",
    "ResourceID_Required",
    "SkuPriceId_Nullable",
}


def main(work: Path) -> None:
    report = (work / "report.txt").read_text()
    failed = set(re.findall(r"^(\S+) failed:", report, re.MULTILINE))
    assert "Provider_Required" in failed, f"it did not run:\n{report}"
    assert failed <= OF_THE_VALIDATOR, f"{sorted(failed - OF_THE_VALIDATOR)}\n{report}"
    assert "SkuPriceId_Nullable" not in failed or 'KeyError("ChargeType")' in report, report

    with open(work / "costs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 4, f"two models, input and output: {rows}"
    missing = [column for column in MANDATORY if column not in rows[0]]
    assert not missing, missing
    empty = {
        column
        for row in rows
        for column in MANDATORY
        if row[column] == "" and column != "ChargeClass"
    }
    assert not empty, f"{empty} may not be null"
    for row in rows:
        if row["ListUnitPrice"]:
            price, quantity = Decimal(row["ListUnitPrice"]), Decimal(row["PricingQuantity"])
            assert price * quantity == Decimal(row["ListCost"]), row

    cost = sum(Decimal(row["BilledCost"]) for row in rows)
    ledger = sum(Decimal(row["cost"]) for row in json.loads((work / "costs.json").read_text())["data"])
    assert cost == ledger and cost > 0, (cost, ledger)

    table = pyarrow.parquet.read_table(work / "costs.parquet")
    assert table.column_names == list(rows[0]), table.column_names
    read = table.to_pylist()
    assert len(read) == len(rows)
    for one, other in zip(read, rows):
        assert one["BilledCost"] == Decimal(other["BilledCost"]), (one, other)
        assert (one["SkuId"] or "") == other["SkuId"]
        assert one["ChargePeriodStart"].strftime("%Y-%m-%dT%H:%M:%SZ") == other["ChargePeriodStart"]
    print(f"{len(rows)} charges, {cost} dollars: passed")


main(Path(sys.argv[1]))
