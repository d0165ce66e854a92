"""The supervision of students by the trajectory of a teacher."""
