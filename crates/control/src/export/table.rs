//! Charges as CSV (RFC 4180) or as Parquet.

use std::io::Write;
use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::{
    ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, Int64Type,
};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{Type, TypePtr};

use super::ExportError;
use super::focus::{COLUMNS, Cell, Charge, Form};

/// 8,192 rows of 56 cells: some 10 MB while a group of rows is gathered.
const ROWS_PER_GROUP: usize = 8_192;
/// 38 digits: what 16 bytes hold.
const DIGITS: i32 = 38;
/// Dollars have twelve places.
const PLACES: i32 = 12;
const DECIMAL_BYTES: i32 = 16;

/// Where charges are written to.
pub(super) enum Table<W: Write + Send> {
    Csv(Box<csv::Writer<W>>),
    Parquet {
        writer: Box<SerializedFileWriter<W>>,
        rows: Vec<Charge>,
    },
}

impl<W: Write + Send> Table<W> {
    /// CSV with a header.
    pub(super) fn csv(to: W) -> Result<Self, ExportError> {
        let mut writer = csv::Writer::from_writer(to);
        writer.write_record(COLUMNS.map(|(name, _)| name))?;
        Ok(Self::Csv(Box::new(writer)))
    }

    /// Parquet: texts, timestamps in microseconds, and decimals that are exact.
    pub(super) fn parquet(to: W) -> Result<Self, ExportError> {
        let properties = Arc::new(WriterProperties::builder().build());
        let writer = SerializedFileWriter::new(to, schema()?, properties)?;
        Ok(Self::Parquet {
            writer: Box::new(writer),
            rows: Vec::new(),
        })
    }

    pub(super) fn push(&mut self, charge: Charge) -> Result<(), ExportError> {
        match self {
            Self::Csv(writer) => writer.write_record(charge.iter().map(Cell::csv))?,
            Self::Parquet { rows, .. } => rows.push(charge),
        }
        Ok(())
    }

    /// Writes what is gathered, if it is enough.
    pub(super) fn flush(&mut self) -> Result<(), ExportError> {
        match self {
            Self::Csv(_) => Ok(()),
            Self::Parquet { writer, rows } if rows.len() >= ROWS_PER_GROUP => {
                write_group(writer, &std::mem::take(rows))
            }
            Self::Parquet { .. } => Ok(()),
        }
    }

    /// Writes what is left. Where it was written to.
    pub(super) fn finish(self) -> Result<W, ExportError> {
        match self {
            Self::Csv(writer) => writer
                .into_inner()
                .map_err(|error| ExportError::Io(error.into_error())),
            Self::Parquet { mut writer, rows } => {
                if !rows.is_empty() {
                    write_group(&mut writer, &rows)?;
                }
                Ok(writer.into_inner()?)
            }
        }
    }
}

fn schema() -> Result<TypePtr, ExportError> {
    let mut fields = Vec::with_capacity(COLUMNS.len());
    for (name, form) in COLUMNS {
        let physical = match form {
            Form::Text => Physical::BYTE_ARRAY,
            Form::Time => Physical::INT64,
            Form::Decimal => Physical::FIXED_LEN_BYTE_ARRAY,
        };
        let field = Type::primitive_type_builder(name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(Some(logical(form)));
        let field = match form {
            Form::Decimal => field
                .with_length(DECIMAL_BYTES)
                .with_precision(DIGITS)
                .with_scale(PLACES),
            Form::Text | Form::Time => field,
        };
        fields.push(Arc::new(field.build()?));
    }
    let schema = Type::group_type_builder("focus")
        .with_fields(fields)
        .build()?;
    Ok(Arc::new(schema))
}

fn logical(form: Form) -> LogicalType {
    match form {
        Form::Text => LogicalType::String,
        Form::Time => LogicalType::timestamp(true, TimeUnit::MICROS),
        Form::Decimal => LogicalType::decimal(PLACES, DIGITS),
    }
}

fn write_group<W: Write + Send>(
    writer: &mut SerializedFileWriter<W>,
    rows: &[Charge],
) -> Result<(), ExportError> {
    let mut group = writer.next_row_group()?;
    let mut place = 0;
    while let Some(mut column) = group.next_column()? {
        let cells = || rows.iter().map(|row| &row[place]);
        let present: Vec<i16> = cells()
            .map(|cell| i16::from(*cell != Cell::Nothing))
            .collect();
        match COLUMNS[place].1 {
            Form::Text => {
                let values: Vec<ByteArray> = cells()
                    .filter_map(|cell| match cell {
                        Cell::Text(text) => Some(text.as_bytes().to_vec().into()),
                        _ => None,
                    })
                    .collect();
                column
                    .typed::<ByteArrayType>()
                    .write_batch(&values, Some(&present), None)?;
            }
            Form::Time => {
                let values: Vec<i64> = cells()
                    .filter_map(|cell| match cell {
                        Cell::Time(time) => Some(time.as_micros()),
                        _ => None,
                    })
                    .collect();
                column
                    .typed::<Int64Type>()
                    .write_batch(&values, Some(&present), None)?;
            }
            Form::Decimal => {
                let values: Vec<FixedLenByteArray> = cells()
                    .filter_map(|cell| match cell {
                        Cell::Decimal(amount) => Some(amount.pico().to_be_bytes().to_vec().into()),
                        _ => None,
                    })
                    .collect();
                column.typed::<FixedLenByteArrayType>().write_batch(
                    &values,
                    Some(&present),
                    None,
                )?;
            }
        }
        column.close()?;
        place += 1;
    }
    group.close()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use base::PicoUsd;
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::record::Field;

    use super::*;

    fn charge(description: &str, cost: i128) -> Charge {
        let mut charge: Charge = COLUMNS.map(|(_, form)| match form {
            Form::Text => Cell::Nothing,
            Form::Time => Cell::Time(base::Timestamp::from_micros(1_790_000_000_000_000)),
            Form::Decimal => Cell::Decimal(PicoUsd::ZERO),
        });
        charge[0] = Cell::Decimal(PicoUsd::new(cost));
        charge[8] = Cell::Text(description.to_owned());
        charge
    }

    #[test]
    fn csv_quotes_what_it_must() {
        let mut table = Table::csv(Vec::new()).unwrap();
        table.push(charge("a, \"b\"\nc", -1)).unwrap();
        let text = String::from_utf8(table.finish().unwrap()).unwrap();
        assert!(text.starts_with("BilledCost,BillingAccountId,"));
        assert!(text.contains("\n-0.000000000001,,,"), "{text}");
        assert!(text.contains(",\"a, \"\"b\"\"\nc\","), "{text}");
    }

    #[test]
    fn parquet_is_read_again_exactly() {
        let mut table = Table::parquet(Vec::new()).unwrap();
        let costs = [0, 1, -1, i128::from(i64::MAX) * 1_000_000, 7];
        for (number, cost) in costs.into_iter().enumerate() {
            table
                .push(charge(&format!("charge {number}"), cost))
                .unwrap();
        }
        let file = bytes::Bytes::from(table.finish().unwrap());
        let reader = SerializedFileReader::new(file).unwrap();
        let mut read = 0;
        for (row, cost) in reader.get_row_iter(None).unwrap().zip(costs) {
            let row = row.unwrap();
            let columns: Vec<_> = row.get_column_iter().collect();
            assert_eq!(columns.len(), COLUMNS.len());
            let Field::Decimal(decimal) = columns[0].1 else {
                panic!("{:?}", columns[0])
            };
            let mut bytes = [0; 16];
            bytes.copy_from_slice(decimal.data());
            assert_eq!((i128::from_be_bytes(bytes), decimal.scale()), (cost, 12));
            assert_eq!(*columns[8].1, Field::Str(format!("charge {read}")));
            assert_eq!(*columns[1].1, Field::Null);
            read += 1;
        }
        assert_eq!(read, costs.len());
    }
}
