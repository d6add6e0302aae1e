-- Random values that the server makes for itself and that must stay the same, as lower-case hexadecimal text.
CREATE TABLE secrets (
    name TEXT NOT NULL PRIMARY KEY,
    secret TEXT NOT NULL
) STRICT, WITHOUT ROWID;
