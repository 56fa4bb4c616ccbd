"""Pydantic's validation errors, reworded for people who write YAML."""

from pydantic_core import ErrorDetails

# Keyed by pydantic's error type; the braces are filled from its context.
MESSAGES = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text; put it in quotes",
    "path_type": "must be a path; put it in quotes",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "contains a character that is not allowed, or is too long",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "dict_type": "must be a section with its own keys",
    "model_type": "must be a section with its own keys",
    "model_attributes_type": "must be a section with its own keys",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "union_tag_invalid": "has an unknown {discriminator}; known: {expected_tags}",
    "union_tag_not_found": "must have a {discriminator}",
}


def in_words(problem: ErrorDetails) -> str:
    """Return one of pydantic's errors as the end of a sentence that begins with the key."""
    if template := MESSAGES.get(problem["type"]):
        return template.format(**problem.get("ctx", {}))
    message = problem["msg"].removeprefix("Value error, ")
    return f"{message[0].lower()}{message[1:]}"
