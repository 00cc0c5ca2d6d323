"""What an API server does with a custom object, step by step; `kvpool_api.validation` puts the steps together."""
