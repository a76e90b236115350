"""The compiled steps that decision rules are made of. Whatever must be fast is here, and only here."""
