-- Random values that the server makes for itself and that must stay the same, as lower-case hexadecimal text.
CREATE TABLE IF NOT EXISTS secrets (
    name varchar(250) NOT NULL PRIMARY KEY,
    secret text NOT NULL
) CHARACTER SET utf8mb4 COLLATE exact_collation ROW_FORMAT=DYNAMIC;
