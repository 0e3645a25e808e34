"""The backend of the small framework that the fast tests run on."""
