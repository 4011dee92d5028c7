//! How obstacles are told.

use crate::compatibility::Incompatibility;

pub(super) fn obstacle(kind: &str, path: impl Into<String>, detail: impl Into<String>) -> Incompatibility {
    let path = path.into();
    let what = match kind {
        "TYPE_CHANGED" => "The type has changed",
        "TYPE_NARROWED" => "The reader takes fewer types than the writer writes",
        "ENUM_ARRAY_NARROWED" => "The reader takes fewer values than the writer writes",
        "ENUM_ARRAY_CHANGED" => "The listed values have changed, and some that are written are not taken",
        "COMBINED_TYPE_CHANGED" => "The way in which schemas are combined has changed",
        "PRODUCT_TYPE_EXTENDED" => "The reader demands one more schema of the same value",
        "SUM_TYPE_NARROWED" => "The reader takes fewer alternatives than the writer writes",
        "COMBINED_TYPE_SUBSCHEMAS_CHANGED" => "An alternative of the writer is none of the reader's",
        "NOT_TYPE_EXTENDED" => "The reader excludes more than the writer does",
        "CONDITION_ADDED" | "CONDITION_CHANGED" => "The reader has a condition that the writer does not keep",
        "SCHEMA_ADDED" => "The reader has a schema where the writer has none",
        "REQUIRED_ATTRIBUTE_ADDED" => "The reader requires a property that the writer may leave out",
        "REQUIRED_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL" => {
            "The reader requires a property, without a default, that the writer does not know"
        }
        "PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL" => {
            "The reader restricts a property that the writer leaves open (additionalProperties is not false)"
        }
        "PROPERTY_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL" => {
            "The reader restricts a property more than the writer restricts its additional or patterned ones"
        }
        "PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL" => {
            "The reader does not know a property of the writer, and takes no other properties"
        }
        "PROPERTY_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL" => {
            "The reader does not know a property of the writer, and does not take it as one of the others either"
        }
        "ADDITIONAL_PROPERTIES_REMOVED" => "The reader takes no additional properties, but the writer writes some",
        "ADDITIONAL_PROPERTIES_NARROWED" => "The reader restricts additional properties more than the writer does",
        "PROPERTY_NAMES_ADDED" | "PROPERTY_NAMES_NARROWED" => "The reader takes fewer names than the writer writes",
        "DEPENDENCY_ARRAY_ADDED" | "DEPENDENCY_ARRAY_EXTENDED" | "DEPENDENCY_ARRAY_CHANGED" => {
            "With this property the reader requires others that the writer may leave out"
        }
        "DEPENDENCY_SCHEMA_ADDED" => "With this property the reader demands a schema that the writer does not keep",
        "ITEM_ADDED_TO_OPEN_CONTENT_MODEL" => "The reader restricts an item that the writer leaves open",
        "ITEM_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL" => {
            "The reader restricts an item more than the writer restricts its additional ones"
        }
        "ITEM_REMOVED_FROM_CLOSED_CONTENT_MODEL" => {
            "The reader does not know an item of the writer, and takes no other items"
        }
        "ITEM_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL" => {
            "The reader does not know an item of the writer, and does not take it as one of the others either"
        }
        "ADDITIONAL_ITEMS_REMOVED" => "The reader takes no additional items, but the writer writes some",
        "ADDITIONAL_ITEMS_NARROWED" => "The reader restricts additional items more than the writer does",
        "CONTAINS_ADDED" | "CONTAINS_CHANGED" => "The reader counts items that the writer does not count so",
        "MULTIPLE_OF_ADDED" | "MULTIPLE_OF_EXPANDED" | "MULTIPLE_OF_CHANGED" => {
            "The reader takes fewer multiples than the writer writes"
        }
        "FORMAT_ADDED" | "FORMAT_CHANGED" => "The reader demands a format that the writer does not",
        "PATTERN_ADDED" | "PATTERN_CHANGED" => "The reader demands a pattern that the writer does not",
        "UNIQUE_ITEMS_ADDED" => "The reader takes no item twice, but the writer may write one twice",
        "TOO_COMPLEX" => "The schemas are too large to compare, or too many alternatives lead to others",
        bound if bound.ends_with("_INCREASED") || bound.starts_with("MIN") || bound.contains("MINIMUM") => {
            "The reader takes nothing as small as the writer writes"
        }
        _ => "The reader takes nothing as large as the writer writes",
    };
    let message = format!("{what}, at path '{path}'");
    Incompatibility { kind: kind.to_owned(), path, message, detail: detail.into() }
}

/// An obstacle within another.
pub(super) fn brief(inner: &Incompatibility) -> String {
    format!("{} {}", inner.kind, inner.path)
}
