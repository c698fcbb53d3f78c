"""The models, one folder or file each. They do not know each other: what two share lies further down."""
