"""What pydantic finds wrong with a value, in the words of a person who writes YAML."""

from pydantic_core import ErrorDetails

# By pydantic's type of the error; the braces are filled from its context.
SAID = {
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
    "string_pattern_mismatch": "has a character that is not allowed there, or is too long",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "dict_type": "must be a section with keys of its own",
    "model_type": "must be a section with keys of its own",
    "model_attributes_type": "must be a section with keys of its own",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "union_tag_invalid": "names an unknown {discriminator}; known are {expected_tags}",
    "union_tag_not_found": "must name its {discriminator}",
}


def in_words(problem: ErrorDetails) -> str:
    """One of pydantic's errors as the end of a sentence that begins with the key."""
    if said := SAID.get(problem["type"]):
        return said.format(**problem.get("ctx", {}))
    message = problem["msg"].removeprefix("Value error, ")
    return f"{message[0].lower()}{message[1:]}"
